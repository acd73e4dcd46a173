//! Emits the mean of each window of a series.

const std = @import("std");
const sanderling = @import("sanderling");

pub const panic = sanderling.panic;

var samples: [16384]f32 = undefined;

pub fn frame(header: *const sanderling.FrameHeader) !void {
    const content = try sanderling.frameRead(0, std.mem.sliceAsBytes(&samples));
    const count = content.len / @sizeOf(f32);
    var sum: f64 = 0;
    for (samples[0..count]) |sample| sum += sample;
    const mean = if (count > 0) sum / @as(f64, @floatFromInt(count)) else 0;
    var room: [128]u8 = undefined;
    try sanderling.emit("{{name}}", try std.fmt.bufPrint(&room, "{{\"seq\":{d},\"mean\":{d}}}", .{ header.seq, mean }));
}

comptime {
    sanderling.guest(@This());
}
