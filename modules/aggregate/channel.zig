//! One channel of one sensor: the window that is open, and what is known of its samples.

const std = @import("std");
const settings_file = @import("settings.zig");
const Settings = settings_file.Settings;
const Function = settings_file.Function;

/// A window of one channel.
pub const Channel = struct {
    /// Valid samples so far; none: no window is open.
    count: u64 = 0,
    sum: f64 = 0,
    min: f64 = 0,
    max: f64 = 0,
    first: f64 = 0,
    last: f64 = 0,
    /// Welford's running mean, and the sum of squares about it.
    mean: f64 = 0,
    squares: f64 = 0,
    /// Wall-clock time of the first and of the last sample.
    from_ns: i64 = 0,
    to_ns: i64 = 0,
    /// The samples themselves, where percentiles are asked for.
    samples: std.ArrayList(f64) = .empty,

    /// Takes a sample in.
    pub fn add(self: *Channel, value: f64, at_ns: i64) void {
        if (self.count == 0) {
            self.* = .{ .min = value, .max = value, .first = value, .from_ns = at_ns, .samples = self.samples };
        }
        self.count += 1;
        self.sum += value;
        self.min = @min(self.min, value);
        self.max = @max(self.max, value);
        self.last = value;
        self.to_ns = at_ns;
        const from_mean = value - self.mean;
        self.mean += from_mean / @as(f64, @floatFromInt(self.count));
        self.squares += from_mean * (value - self.mean);
    }

    /// Keeps a sample for percentiles; `false` where there is no room.
    pub fn keep(self: *Channel, allocator: std.mem.Allocator, value: f64) bool {
        if (self.samples.items.len >= settings_file.most_samples) return false;
        self.samples.append(allocator, value) catch return false;
        return true;
    }

    /// Makes room for the next window; the memory of the samples is kept.
    pub fn close(self: *Channel) void {
        self.samples.clearRetainingCapacity();
        self.count = 0;
    }

    /// What a function gives; null where it is not defined. Percentiles want the samples sorted.
    pub fn of(self: *const Channel, function: Function) ?f64 {
        return switch (function) {
            .count => @floatFromInt(self.count),
            .sum => self.sum,
            .min => self.min,
            .max => self.max,
            .mean => self.mean,
            .stddev => if (self.count < 2) null else @sqrt(self.squares / @as(f64, @floatFromInt(self.count - 1))),
            .first => self.first,
            .last => self.last,
            .percentile => |rank| percentile(self.samples.items, rank),
        };
    }

    /// Brings the samples into the order that percentiles want.
    pub fn sort(self: *Channel) void {
        std.sort.pdq(f64, self.samples.items, {}, std.sort.asc(f64));
    }
};

fn percentile(sorted: []const f64, rank: f64) ?f64 {
    if (sorted.len == 0) return null;
    const place = rank / 100 * @as(f64, @floatFromInt(sorted.len - 1));
    const below: usize = @intFromFloat(@floor(place));
    const above = @min(below + 1, sorted.len - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - @floor(place));
}
