//! Writing a guest in Zig.
//!
//!     const sanderling = @import("sanderling");
//!
//!     pub const panic = sanderling.panic;
//!
//!     pub fn frame(header: *const sanderling.FrameHeader) !void {
//!         var buffer: [64]u8 = undefined;
//!         try sanderling.emit("lengths", try std.fmt.bufPrint(&buffer, "{d}", .{header.len}));
//!     }
//!
//!     comptime {
//!         sanderling.guest(@This());
//!     }
//!
//! Build with `zig build-exe -target wasm32-freestanding -O ReleaseSmall -fno-entry -rdynamic --stack 65536`: Zig's own stack is 16 MiB. The
//! layouts and numbers are those of the crate sanderling-guest; a test holds this file to them.

const std = @import("std");

/// The version of the contract.
pub const abi: i32 = 1;

/// What a frame's content is.
pub const Kind = enum(u16) { bytes = 0, json = 1, image = 2, series = 3, _ };

/// How a frame's content is laid out.
pub const Format = enum(u16) {
    none = 0,
    gray8 = 1,
    rgb8 = 2,
    bgr8 = 3,
    yuyv = 4,
    nv12 = 5,
    gray16 = 6,
    jpeg = 7,
    png = 8,
    f32 = 16,
    i16 = 17,
    i32 = 18,
    _,
};

/// The header of a frame.
pub const FrameHeader = extern struct {
    /// Counts the sensor's frames, dropped ones included.
    seq: u64,
    /// Wall-clock time of capture, nanoseconds since 1970.
    captured_unix_ns: i64,
    /// Monotonic time of capture, nanoseconds.
    captured_mono_ns: u64,
    /// Bytes of content.
    len: u32,
    kind: Kind,
    format: Format,
    /// Pixels a row; samples a channel in a series.
    width: u32,
    /// Rows.
    height: u32,
    /// Bytes from one row to the next.
    stride: u32,
    /// Channels of a series, interleaved.
    channels: u32,
    /// Samples a second of a series, in thousandths of a hertz.
    rate_mhz: u32,
    /// Frames dropped before this one.
    dropped: u32,
    /// The sensor's name, padded with zeros.
    sensor: [32]u8,
    reserved: [8]u8,

    /// The sensor's name.
    pub fn name(self: *const FrameHeader) []const u8 {
        return std.mem.sliceTo(&self.sensor, 0);
    }
};

/// The channels of a tensor.
pub const Color = enum(u8) { gray = 0, rgb = 1, bgr = 2 };
/// The order of a tensor's elements.
pub const Layout = enum(u8) { nchw = 0, nhwc = 1 };
/// The type of a tensor's elements, as an `ImageOp` names it.
pub const Element = enum(u8) { f32 = 0, f16 = 1, u8 = 2, i8 = 3 };
/// How pixels are weighed when the size changes.
pub const Filter = enum(u8) { nearest = 0, bilinear = 1, area = 2 };

/// How the current frame becomes a tensor. An element of type f32 or f16 is (pixel / 255 - mean) * scale; with u8 and i8, mean and scale are
/// zero, and an element is the pixel, or the pixel minus 128.
pub const ImageOp = extern struct {
    /// x, y, width, height in pixels of the frame; width and height 0: the whole frame.
    crop: [4]u32 = .{ 0, 0, 0, 0 },
    /// Of the tensor, 1 to 4096.
    width: u32,
    /// Of the tensor, 1 to 4096.
    height: u32,
    color: Color = .gray,
    layout: Layout = .nchw,
    element: Element = .f32,
    filter: Filter = .bilinear,
    /// Subtracted from each channel.
    mean: [3]f32 = .{ 0, 0, 0 },
    /// Multiplied to each channel.
    scale: [3]f32 = .{ 1, 1, 1 },
    reserved: [12]u8 = @splat(0),
};

/// The type of a tensor's elements, with the numbers of wasi-nn 0.6.
pub const TensorType = enum(u32) { f16 = 0, f32 = 1, f64 = 2, u8 = 3, i32 = 4, i64 = 5, _ };

/// The type and shape of an output.
pub const OutputInfo = extern struct {
    type: TensorType,
    rank: u32,
    dims: [8]u32,
};

/// A rectangle in a frame, in pixels; width and height 0: the whole frame.
pub const Rect = extern struct { x: u32, y: u32, width: u32, height: u32 };

/// The bounds of what a module keeps.
pub const state = struct {
    pub const max_key = 256;
    pub const max_value = 65536;
    pub const max_keys = 4096;
};

/// The device's time.
pub const Time = extern struct {
    /// Nanoseconds since 1970.
    unix_ns: i64,
    /// Nanoseconds since some moment, never going back.
    mono_ns: u64,
};

/// A tensor as wasi-nn lays it out in memory.
pub const Tensor = extern struct {
    dims: [*]const u32,
    dims_len: u32,
    type: u8,
    data: [*]const u8,
    data_len: u32,
};

/// Levels of log lines.
pub const Level = enum(i32) { err = 0, warn = 1, info = 2, debug = 3, trace = 4 };

/// The host's functions as they are: 0 or a length, or a negated error number.
pub const host = struct {
    pub extern "sanderling_v1" fn frame_info(out: *FrameHeader) i32;
    pub extern "sanderling_v1" fn frame_read(offset: u32, ptr: [*]u8, len: u32) i32;
    pub extern "sanderling_v1" fn emit(channel: [*]const u8, channel_len: u32, ptr: [*]const u8, len: u32) i32;
    pub extern "sanderling_v1" fn emit_evidence(channel: [*]const u8, channel_len: u32, rect: *const Rect, quality: u32) i32;
    pub extern "sanderling_v1" fn metric_add(name: [*]const u8, len: u32, value: f64) i32;
    pub extern "sanderling_v1" fn metric_set(name: [*]const u8, len: u32, value: f64) i32;
    pub extern "sanderling_v1" fn state_get(key: [*]const u8, key_len: u32, ptr: [*]u8, capacity: u32) i32;
    pub extern "sanderling_v1" fn state_set(key: [*]const u8, key_len: u32, ptr: [*]const u8, len: u32) i32;
    pub extern "sanderling_v1" fn state_delete(key: [*]const u8, key_len: u32) i32;
    pub extern "sanderling_v1" fn log(level: i32, ptr: [*]const u8, len: u32) i32;
    pub extern "sanderling_v1" fn config(ptr: [*]u8, capacity: u32) i32;
    pub extern "sanderling_v1" fn now(out: *Time) i32;
    pub extern "sanderling_v1" fn image_tensor(op: *const ImageOp, ptr: [*]u8, len: u32) i32;
    pub extern "sanderling_v1" fn nn_input_image(context: u32, index: u32, op: *const ImageOp) i32;
    pub extern "sanderling_v1" fn nn_output_info(context: u32, index: u32, out: *OutputInfo) i32;
};

/// wasi-nn's functions as they are: 0, or its own error number.
pub const nn_host = struct {
    pub const Bytes = extern struct { ptr: [*]const u8, len: u32 };

    pub extern "wasi_ephemeral_nn" fn load(parts: [*]const Bytes, parts_len: u32, encoding: u32, target: u32, graph: *u32) i32;
    pub extern "wasi_ephemeral_nn" fn load_by_name(name: [*]const u8, name_len: u32, graph: *u32) i32;
    pub extern "wasi_ephemeral_nn" fn init_execution_context(graph: u32, context: *u32) i32;
    pub extern "wasi_ephemeral_nn" fn set_input(context: u32, index: u32, tensor: *const Tensor) i32;
    pub extern "wasi_ephemeral_nn" fn compute(context: u32) i32;
    pub extern "wasi_ephemeral_nn" fn get_output(context: u32, index: u32, ptr: [*]u8, capacity: u32, written: *u32) i32;
};

/// Error numbers, which host functions return negated.
pub const errno = struct {
    pub const ENOENT = 2;
    pub const E2BIG = 7;
    pub const EAGAIN = 11;
    pub const EACCES = 13;
    pub const EFAULT = 14;
    pub const EINVAL = 22;
    pub const ENOSPC = 28;
    pub const ENODATA = 61;
};

/// What a host function refuses with.
pub const Error = error{ NoEntry, TooBig, Again, Denied, OutOfMemoryBounds, Invalid, NoSpace, NoData, Unknown };

/// The error with this number.
pub fn errorOf(number: i32) Error {
    return switch (number) {
        errno.ENOENT => error.NoEntry,
        errno.E2BIG => error.TooBig,
        errno.EAGAIN => error.Again,
        errno.EACCES => error.Denied,
        errno.EFAULT => error.OutOfMemoryBounds,
        errno.EINVAL => error.Invalid,
        errno.ENOSPC => error.NoSpace,
        errno.ENODATA => error.NoData,
        else => error.Unknown,
    };
}

fn check(result: i32) Error!u32 {
    return if (result >= 0) @intCast(result) else errorOf(-result);
}

/// The header of the current frame.
pub fn frameInfo() Error!FrameHeader {
    var header: FrameHeader = undefined;
    _ = try check(host.frame_info(&header));
    return header;
}

/// Copies the current frame from `offset` on, as far as it fits.
pub fn frameRead(offset: u32, out: []u8) Error![]u8 {
    return out[0..try check(host.frame_read(offset, out.ptr, out.len))];
}

/// Queues a record on a channel that the deployment grants: `Denied` without the grant, `Again` above the rate, `TooBig` above 64 KiB.
pub fn emit(channel: []const u8, record: []const u8) Error!void {
    _ = try check(host.emit(channel.ptr, channel.len, record.ptr, record.len));
}

/// Has a part of the current image encoded as JPEG and queued on a channel, with the grants `evidence` and `emit:<channel>`; the quality that was
/// used.
pub fn emitEvidence(channel: []const u8, rect: Rect, quality: u32) Error!u32 {
    return check(host.emit_evidence(channel.ptr, channel.len, &rect, quality));
}

/// Adds to a counter, which is reported with the module.
pub fn metricAdd(name: []const u8, value: f64) Error!void {
    _ = try check(host.metric_add(name.ptr, name.len, value));
}

/// Sets a gauge, which is reported with the module.
pub fn metricSet(name: []const u8, value: f64) Error!void {
    _ = try check(host.metric_set(name.ptr, name.len, value));
}

/// The value of a key that the module keeps over restarts and updates, with the grant `state:<bytes>`; null where it has none, `NoSpace` where it is
/// longer than `out`.
pub fn stateGet(key: []const u8, out: []u8) Error!?[]u8 {
    const length = check(host.state_get(key.ptr, key.len, out.ptr, out.len)) catch |err| {
        return if (err == error.NoEntry) null else err;
    };
    return if (length <= out.len) out[0..length] else error.NoSpace;
}

/// Sets the value of a key: `NoSpace` above the quota or the number of keys.
pub fn stateSet(key: []const u8, value: []const u8) Error!void {
    _ = try check(host.state_set(key.ptr, key.len, value.ptr, value.len));
}

/// Forgets the value of a key; whether there was one.
pub fn stateDelete(key: []const u8) Error!bool {
    _ = check(host.state_delete(key.ptr, key.len)) catch |err| return if (err == error.NoEntry) false else err;
    return true;
}

/// Writes a line to the device's log.
pub fn log(level: Level, line: []const u8) void {
    _ = host.log(@backingInt(level), line.ptr, line.len);
}

/// Writes a formatted line of at most 256 bytes to the device's log.
pub fn logf(level: Level, comptime fmt: []const u8, args: anytype) void {
    var buffer: [256]u8 = undefined;
    log(level, std.fmt.bufPrint(&buffer, fmt, args) catch fmt);
}

/// The deployment's `config`, JSON text, `null` where it has none; `NoSpace` where it is longer than `out`.
pub fn config(out: []u8) Error![]const u8 {
    const length = try check(host.config(out.ptr, out.len));
    return if (length <= out.len) out[0..length] else error.NoSpace;
}

/// The device's time.
pub fn now() Time {
    var time: Time = undefined;
    _ = host.now(&time);
    return time;
}

/// Makes the current frame a tensor in `out`, natively.
pub fn imageTensor(op: *const ImageOp, out: []u8) Error!void {
    _ = try check(host.image_tensor(op, out.ptr, out.len));
}

/// What an inference call refuses with, in wasi-nn's words.
pub const NnError = error{ InvalidArgument, InvalidEncoding, MissingMemory, Busy, RuntimeError, UnsupportedOperation, TooLarge, NotFound, UnknownNn };

fn checkNn(result: i32) NnError!void {
    return switch (result) {
        0 => {},
        1 => error.InvalidArgument,
        2 => error.InvalidEncoding,
        3 => error.MissingMemory,
        4 => error.Busy,
        5 => error.RuntimeError,
        6 => error.UnsupportedOperation,
        7 => error.TooLarge,
        8 => error.NotFound,
        else => error.UnknownNn,
    };
}

/// An execution context of a model.
pub const Model = struct {
    context: u32,

    /// Loads the model that the deployment binds to `name`.
    pub fn load(name: []const u8) NnError!Model {
        var graph: u32 = undefined;
        try checkNn(nn_host.load_by_name(name.ptr, name.len, &graph));
        var model: Model = undefined;
        try checkNn(nn_host.init_execution_context(graph, &model.context));
        return model;
    }

    /// Loads an ONNX model that the guest brings itself, with the grant `infer:load`.
    pub fn fromOnnx(onnx: []const u8) NnError!Model {
        const parts = [1]nn_host.Bytes{.{ .ptr = onnx.ptr, .len = onnx.len }};
        const encoding_onnx, const cpu = .{ 1, 0 };
        var graph: u32 = undefined;
        try checkNn(nn_host.load(&parts, parts.len, encoding_onnx, cpu, &graph));
        var model: Model = undefined;
        try checkNn(nn_host.init_execution_context(graph, &model.context));
        return model;
    }

    /// Makes the current frame an input, natively: the pixels never enter the guest.
    pub fn inputImage(self: Model, index: u32, op: *const ImageOp) Error!void {
        _ = try check(host.nn_input_image(self.context, index, op));
    }

    /// Sets an input from little-endian bytes.
    pub fn input(self: Model, index: u32, element: TensorType, dims: []const u32, data: []const u8) NnError!void {
        const tensor: Tensor = .{
            .dims = dims.ptr,
            .dims_len = dims.len,
            .type = @intCast(@backingInt(element)),
            .data = data.ptr,
            .data_len = data.len,
        };
        try checkNn(nn_host.set_input(self.context, index, &tensor));
    }

    /// Runs the model.
    pub fn compute(self: Model) NnError!void {
        try checkNn(nn_host.compute(self.context));
    }

    /// Copies an output into `out`; the part of it that was written.
    pub fn output(self: Model, index: u32, out: []u8) NnError![]u8 {
        var written: u32 = 0;
        try checkNn(nn_host.get_output(self.context, index, out.ptr, out.len, &written));
        return out[0..written];
    }

    /// The type and shape of an output.
    pub fn outputInfo(self: Model, index: u32) Error!OutputInfo {
        var info: OutputInfo = undefined;
        _ = try check(host.nn_output_info(self.context, index, &info));
        return info;
    }
};

/// The guest's own fault codes; those of the SDK for Rust where it has them.
fn code(err: anyerror) i32 {
    if (err == error.Config) return 1001;
    logf(.err, "the guest failed: {s}", .{@errorName(err)});
    return 1;
}

/// Exports a container as the module's guest: `frame(*const FrameHeader) !void`, and where it has them `start() !void` and `stop() void`. The error
/// `Config` becomes the fault code 1001, every other one is logged by its name and becomes 1.
pub fn guest(comptime Guest: type) void {
    const exports = struct {
        fn version() callconv(.c) i32 {
            return abi;
        }

        fn start() callconv(.c) i32 {
            Guest.start() catch |err| return code(err);
            return 0;
        }

        fn frame() callconv(.c) i32 {
            const header = frameInfo() catch |err| return code(err);
            Guest.frame(&header) catch |err| return code(err);
            return 0;
        }

        fn stop() callconv(.c) void {
            Guest.stop();
        }
    };
    @export(&exports.version, .{ .name = "sanderling_abi" });
    @export(&exports.frame, .{ .name = "sanderling_frame" });
    if (@hasDecl(Guest, "start")) @export(&exports.start, .{ .name = "sanderling_start" });
    if (@hasDecl(Guest, "stop")) @export(&exports.stop, .{ .name = "sanderling_stop" });
}

/// Says in the log why the guest traps; for `pub const panic` in a guest's root.
pub const panic = std.debug.FullPanic(struct {
    fn panic(message: []const u8, _: ?usize) noreturn {
        log(.err, message);
        @trap();
    }
}.panic);
