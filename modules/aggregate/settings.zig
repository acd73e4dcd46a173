//! The configuration of an aggregation, read and checked.

const std = @import("std");
const sanderling = @import("sanderling");

/// No window is longer than a week.
const longest_s: f64 = 7 * 24 * 3600;
/// The samples of a window that percentiles are taken of, at most.
pub const most_samples = 1 << 20;
const most_functions = 32;

/// What is computed of a window.
pub const Function = union(enum) {
    count,
    sum,
    min,
    max,
    mean,
    /// Of a sample: the sum of squares is divided by the count less one.
    stddev,
    first,
    last,
    /// Between the two nearest ranks, in proportion.
    percentile: f64,

    fn parse(name: []const u8) ?Function {
        if (name.len > 1 and name[0] == 'p') {
            const rank = std.fmt.parseFloat(f64, name[1..]) catch return null;
            return if (rank >= 0 and rank <= 100) .{ .percentile = rank } else null;
        }
        inline for (.{ "count", "sum", "min", "max", "mean", "stddev", "first", "last" }) |known| {
            if (std.mem.eql(u8, name, known)) return @field(Function, known);
        }
        return null;
    }
};

/// When a window ends.
pub const Window = union(enum) {
    /// After so many nanoseconds, counted from 1970, so that the windows of all devices are the same.
    time: i64,
    /// After so many samples of a channel.
    samples: u32,
};

/// The deployment's `config`.
pub const Settings = struct {
    window: Window,
    functions: []const Function,
    /// As the record names them.
    labels: []const []const u8,
    /// What the channels are called, by their place in the series.
    names: []const []const u8,

    /// Whether the samples of a window must be kept until it ends.
    pub fn keepsSamples(self: *const Settings) bool {
        for (self.functions) |function| {
            if (function == .percentile) return true;
        }
        return false;
    }
};

/// What is read, key by key.
const Raw = struct {
    window_s: f64 = 0,
    window_samples: u32 = 0,
    functions: []const []const u8 = &.{ "count", "min", "max", "mean" },
    names: []const []const u8 = &.{},
};

fn refuse(comptime line: []const u8, args: anytype) error{Config} {
    sanderling.logf(.err, line, args);
    return error.Config;
}

var text: [4096]u8 = undefined;
var room: [16384]u8 = undefined;
var functions: [most_functions]Function = undefined;

/// Reads the deployment's `config`; what is wrong with it is logged in words.
pub fn read() error{Config}!Settings {
    const json = sanderling.config(&text) catch return refuse("the config is longer than 4096 bytes", .{});
    var allocator = std.heap.FixedBufferAllocator.init(&room);
    const raw = std.json.parseFromSliceLeaky(Raw, allocator.allocator(), json, .{}) catch |err| {
        return refuse("the config does not fit ({s}); it has window_s or window_samples, functions and names", .{@errorName(err)});
    };
    if (raw.functions.len > most_functions) return refuse("functions has more than 32 entries", .{});
    for (raw.functions, 0..) |name, index| {
        functions[index] = Function.parse(name) orelse
            return refuse("unknown function {s}; known are count, sum, min, max, mean, stddev, first, last and p0 to p100", .{name});
    }
    var settings: Settings = .{
        .window = try window(&raw),
        .functions = functions[0..raw.functions.len],
        .labels = raw.functions,
        .names = raw.names,
    };
    if (settings.window == .samples and settings.keepsSamples() and settings.window.samples > most_samples) {
        return refuse("percentiles are taken of at most 1048576 samples; make window_samples smaller", .{});
    }
    return settings;
}

fn window(raw: *const Raw) error{Config}!Window {
    if ((raw.window_s > 0) == (raw.window_samples > 0)) return refuse("the config says either window_s or window_samples", .{});
    if (raw.window_samples > 0) return .{ .samples = raw.window_samples };
    if (raw.window_s < 0.001 or raw.window_s > longest_s) return refuse("window_s is not a number from 0.001 to 604800", .{});
    return .{ .time = @intFromFloat(@round(raw.window_s * std.time.ns_per_s)) };
}
