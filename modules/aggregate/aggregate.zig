//! Makes few numbers of many: what a deployment asks for, of each window of each channel of a series.
//!
//! What comes in is a series of f32, i16 or i32, at any rate; what goes out on the channel `aggregates` is, for each window,
//! {"seq", "sensor", "channel", "name", "from_unix_ms", "to_unix_ms", and a value for each function}. A window of time ends with the first sample
//! behind it; its bounds are multiples of its length since 1970. A window that ends early says "partial": the module is stopped, or the samples
//! for percentiles have no room left. Samples that are no numbers are left out, and a window without samples is not reported.
//!
//! Config: {"window_s": 10} or {"window_samples": 1000}, and, optional, "functions": ["count", "sum", "min", "max", "mean", "stddev", "first",
//! "last", "p50", "p99.9"], by default count, min, max and mean, and "names": ["pressure", …] of the channels. A frame is captured with its last
//! sample; the time of those before it follows from the rate.

const std = @import("std");
const sanderling = @import("sanderling");
const settings_file = @import("settings.zig");
const Channel = @import("channel.zig").Channel;

pub const panic = sanderling.panic;

/// Sensors and channels of each that are watched.
const most_sensors = 16;
const most_channels = 64;

const Sensor = struct {
    name: [32]u8,
    channels: [most_channels]Channel = @splat(.{}),
};

var settings: settings_file.Settings = undefined;
var sensors: [most_sensors]?*Sensor = @splat(null);
var record: [8192]u8 = undefined;
var content: [1 << 16]u8 = undefined;
var seq: u64 = 0;

pub fn start() !void {
    settings = try settings_file.read();
}

pub fn stop() void {
    for (sensors) |sensor| {
        const known = sensor orelse continue;
        for (&known.channels, 0..) |*channel, index| end(known, channel, index, true) catch return;
    }
}

pub fn frame(header: *const sanderling.FrameHeader) !void {
    const size = sampleSize(header);
    if (size == 0) {
        sanderling.log(.err, "aggregate takes series of f32, i16 or i32; bind it to such a sensor");
        return error.NotASeries;
    }
    const channels = @max(header.channels, 1);
    if (channels > most_channels) return error.TooManyChannels;
    const sensor = try find(&header.sensor);
    seq = header.seq;
    const rows = header.len / size / channels;
    const period: f64 = if (header.rate_mhz > 0) 1e12 / @as(f64, @floatFromInt(header.rate_mhz)) else 0;
    // The content passes through a place of whole rows, so that a frame of any length needs no more memory.
    const rows_at_once: u32 = @intCast(content.len / (size * channels));
    var row: u32 = 0;
    while (row < rows) {
        const count = @min(rows_at_once, rows - row);
        const bytes = try sanderling.frameRead(row * channels * size, content[0 .. count * channels * size]);
        for (0..count) |within| {
            const after: f64 = @floatFromInt(rows - 1 - row - within);
            const at = header.captured_unix_ns - @as(i64, @intFromFloat(after * period));
            for (sensor.channels[0..channels], 0..) |*channel, index| {
                try take(sensor, channel, index, sample(header.format, bytes, within * channels + index), at);
            }
        }
        row += count;
    }
}

fn find(name: *const [32]u8) !*Sensor {
    for (&sensors) |*place| {
        const sensor = place.* orelse {
            const new = try std.heap.wasm_allocator.create(Sensor);
            new.* = .{ .name = name.* };
            place.* = new;
            return new;
        };
        if (std.mem.eql(u8, &sensor.name, name)) return sensor;
    }
    return error.TooManySensors;
}

/// Takes one sample in, and ends the windows that it ends.
fn take(sensor: *Sensor, channel: *Channel, index: usize, value: f64, at: i64) !void {
    if (!std.math.isFinite(value)) return;
    switch (settings.window) {
        .time => |length| if (channel.count > 0 and @divFloor(at, length) != @divFloor(channel.from_ns, length)) {
            try end(sensor, channel, index, false);
        },
        .samples => {},
    }
    if (settings.keepsSamples() and !channel.keep(std.heap.wasm_allocator, value)) {
        try end(sensor, channel, index, true);
        if (!channel.keep(std.heap.wasm_allocator, value)) return error.OutOfMemory;
    }
    channel.add(value, at);
    switch (settings.window) {
        .time => {},
        .samples => |most| if (channel.count >= most) try end(sensor, channel, index, false),
    }
}

/// Reports the open window of a channel, if there is one.
fn end(sensor: *const Sensor, channel: *Channel, index: usize, partial: bool) !void {
    if (channel.count == 0) return;
    channel.sort();
    var out = std.Io.Writer.fixed(&record);
    try write(&out, sensor, channel, index, partial);
    channel.close();
    // What is above the rate is lost, and counted by the host.
    sanderling.emit("aggregates", out.buffered()) catch |err| if (err != error.Again) return err;
}

fn write(out: *std.Io.Writer, sensor: *const Sensor, channel: *const Channel, index: usize, partial: bool) !void {
    try out.print("{{\"seq\":{d},\"sensor\":", .{seq});
    try std.json.Stringify.encodeJsonString(std.mem.sliceTo(&sensor.name, 0), .{}, out);
    try out.print(",\"channel\":{d}", .{index});
    if (index < settings.names.len) {
        try out.writeAll(",\"name\":");
        try std.json.Stringify.encodeJsonString(settings.names[index], .{}, out);
    }
    const from, const to = switch (settings.window) {
        .time => |length| .{ @divFloor(channel.from_ns, length) * length, (@divFloor(channel.from_ns, length) + 1) * length },
        .samples => .{ channel.from_ns, channel.to_ns },
    };
    try out.print(",\"from_unix_ms\":{d},\"to_unix_ms\":{d}", .{ @divFloor(from, std.time.ns_per_ms), @divFloor(to, std.time.ns_per_ms) });
    for (settings.functions, settings.labels) |function, label| {
        try out.print(",\"{s}\":", .{label});
        try number(out, channel.of(function));
    }
    if (partial) try out.writeAll(",\"partial\":true");
    try out.writeAll("}");
}

fn number(out: *std.Io.Writer, value: ?f64) !void {
    const known = value orelse return out.writeAll("null");
    if (!std.math.isFinite(known)) return out.writeAll("null");
    const size = @abs(known);
    if (size == 0 or (size >= 1e-6 and size < 1e15)) return out.print("{d}", .{known});
    try out.print("{e}", .{known});
}

/// Bytes of a sample, 0 for what is no series.
fn sampleSize(header: *const sanderling.FrameHeader) u32 {
    if (header.kind != .series) return 0;
    return switch (header.format) {
        .f32, .i32 => 4,
        .i16 => 2,
        else => 0,
    };
}

fn sample(format: sanderling.Format, bytes: []const u8, index: usize) f64 {
    return switch (format) {
        .f32 => @as(f32, @bitCast(std.mem.readInt(u32, bytes[index * 4 ..][0..4], .little))),
        .i32 => @floatFromInt(std.mem.readInt(i32, bytes[index * 4 ..][0..4], .little)),
        else => @floatFromInt(std.mem.readInt(i16, bytes[index * 2 ..][0..2], .little)),
    };
}

comptime {
    sanderling.guest(@This());
}
