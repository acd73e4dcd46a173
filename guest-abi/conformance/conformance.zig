//! The conformance guest of the Zig bindings: see README.md.

const std = @import("std");
const sanderling = @import("sanderling");

pub const panic = sanderling.panic;

var line: [512]u8 = undefined;
var content: [64]u8 = undefined;

fn say(comptime fmt: []const u8, args: anytype) !void {
    try sanderling.emit("said", try std.fmt.bufPrint(&line, fmt, args));
}

fn sayNumbers() !void {
    @setEvalBranchQuota(100_000);
    try say("abi {d}", .{sanderling.abi});
    const e = sanderling.errno;
    try say("errno {d} {d} {d} {d} {d} {d} {d} {d}", .{ e.ENOENT, e.E2BIG, e.EAGAIN, e.EACCES, e.EFAULT, e.EINVAL, e.ENOSPC, e.ENODATA });
    try sayValues("kind", sanderling.Kind);
    try sayValues("format", sanderling.Format);
    try sayValues("level", sanderling.Level);
    try sayValues("color", sanderling.Color);
    try sayValues("layout", sanderling.Layout);
    try sayValues("element", sanderling.Element);
    try sayValues("filter", sanderling.Filter);
    try sayValues("tensor", sanderling.TensorType);
}

fn sayValues(comptime name: []const u8, comptime Enum: type) !void {
    @setEvalBranchQuota(100_000);
    comptime var numbers: []const u8 = name;
    inline for (comptime std.enums.values(Enum)) |value| {
        numbers = numbers ++ comptime std.fmt.comptimePrint(" {d}", .{@backingInt(value)});
    }
    try sanderling.emit("said", numbers);
}

fn sayFrame(f: *const sanderling.FrameHeader) !void {
    try say("frame {d} {d} {d} {d} {d} {d} {d} {d} {d} {d} {d} {d} {s}", .{
        f.seq,    f.captured_unix_ns, f.captured_mono_ns, f.len,      @backingInt(f.kind), @backingInt(f.format),
        f.width,  f.height,           f.stride,           f.channels, f.rate_mhz,          f.dropped,
        f.name(),
    });
    try say("content {s}", .{try sanderling.frameRead(0, &content)});
    const time = sanderling.now();
    try say("time {d} {d}", .{ time.unix_ns, time.mono_ns });
}

fn kept(out: []u8) ![]const u8 {
    return try sanderling.stateGet("key", out) orelse "none";
}

fn sayKept() !void {
    var before: [16]u8 = undefined;
    var set: [16]u8 = undefined;
    var after: [16]u8 = undefined;
    const first = try kept(&before);
    try sanderling.stateSet("key", "value");
    const second = try kept(&set);
    _ = try sanderling.stateDelete("key");
    const bounds = sanderling.state;
    try say("state {s} {s} {s} {d} {d} {d}", .{ first, second, try kept(&after), bounds.max_key, bounds.max_value, bounds.max_keys });
    try sanderling.metricAdd("count", 2.5);
    try sanderling.metricSet("level", -1.5);
    try say("metrics 0 0", .{});
    const quality = try sanderling.emitEvidence("said", .{ .x = 1, .y = 2, .width = 3, .height = 4 }, 80);
    try say("evidence {d}", .{quality});
}

fn sayImage() !void {
    const op: sanderling.ImageOp = .{
        .crop = .{ 1, 2, 3, 4 },
        .width = 5,
        .height = 6,
        .color = .bgr,
        .layout = .nhwc,
        .element = .f16,
        .filter = .area,
        .mean = .{ 0.5, 0.25, 0.125 },
        .scale = .{ 2, 4, 8 },
    };
    try say("op {x}", .{std.mem.asBytes(&op)});
    const whole: sanderling.ImageOp = .{ .width = 8, .height = 8, .element = .u8, .filter = .nearest, .scale = .{ 0, 0, 0 } };
    var tensor: [64]u8 = undefined;
    try sanderling.imageTensor(&whole, &tensor);
    try say("image 0 {d}", .{@intFromBool(!std.mem.eql(u8, &tensor, &content))});
}

fn sayModel() !void {
    _ = sanderling.Model.fromOnnx("") catch {};
    const model = try sanderling.Model.load("conv");
    try model.inputImage(0, &.{ .width = 8, .height = 8 });
    const zeros: [256]u8 = @splat(0);
    try model.input(0, .f32, &.{ 1, 1, 8, 8 }, &zeros);
    try model.compute();
    var output: [8]u8 = undefined;
    const written = try model.output(0, &output);
    try say("model 0 0 0 0 0 0 {d}", .{written.len});
    try say("output {x}", .{&output});
    const info = try model.outputInfo(0);
    try say("info {d} {d} {d} {d}", .{ @backingInt(info.type), info.rank, info.dims[0], info.dims[1] });
}

pub fn start() !void {
    var config: [64]u8 = undefined;
    try say("config {s}", .{try sanderling.config(&config)});
    sanderling.log(.warn, "logged");
}

pub fn frame(header: *const sanderling.FrameHeader) !void {
    try sayNumbers();
    try sayFrame(header);
    try sayKept();
    try sayImage();
    try sayModel();
}

comptime {
    sanderling.guest(@This());
}
