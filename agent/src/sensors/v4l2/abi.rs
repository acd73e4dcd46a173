//! What cameras and the kernel say to each other, laid out as `linux/videodev2.h` has it.
//!
//! Structures of plain numbers, and the ioctls that carry them. The number of an ioctl contains the size of its structure, and a test
//! holds the numbers to those of the kernel.
//!
//! Limits: on 32-bit machines times have 64 bits, as since Linux 5.6.

use rustix::ioctl::{Opcode, opcode};

pub(super) const CAPTURE: u32 = 1;
pub(super) const MEMORY_MMAP: u32 = 1;
pub(super) const FIELD_ANY: u32 = 0;
pub(super) const CAN_CAPTURE: u32 = 0x1;
pub(super) const CAN_CAPTURE_PLANES: u32 = 0x1000;
pub(super) const CAN_STREAM: u32 = 0x0400_0000;
pub(super) const HAS_DEVICE_CAPS: u32 = 0x8000_0000;
pub(super) const CAN_SET_RATE: u32 = 0x1000;
pub(super) const BUFFER_ERROR: u32 = 0x40;
pub(super) const TIMESTAMP_MASK: u32 = 0xe000;
pub(super) const TIMESTAMP_MONOTONIC: u32 = 0x2000;
pub(super) const NEXT_CONTROL: u32 = 0x8000_0000;
pub(super) const CONTROL_DISABLED: u32 = 0x1;
pub(super) const CONTROL_READ_ONLY: u32 = 0x4;
pub(super) const SIZE_DISCRETE: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Capability {
    pub(super) driver: [u8; 16],
    pub(super) card: [u8; 32],
    pub(super) bus: [u8; 32],
    pub(super) version: u32,
    pub(super) capabilities: u32,
    pub(super) device_caps: u32,
    pub(super) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct FormatDescription {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) description: [u8; 32],
    pub(super) pixel_format: u32,
    pub(super) mbus_code: u32,
    pub(super) reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct FrameSize {
    pub(super) index: u32,
    pub(super) pixel_format: u32,
    pub(super) kind: u32,
    // Discrete: width, height. Else: least, most and step of the width, then of the height.
    pub(super) sizes: [u32; 6],
    pub(super) reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ImageFormat {
    pub(super) kind: u32,
    // The union that follows has pointers in it.
    #[cfg(target_pointer_width = "64")]
    pub(super) padding: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixel_format: u32,
    pub(super) field: u32,
    pub(super) bytes_per_line: u32,
    pub(super) size_image: u32,
    pub(super) color: [u32; 6],
    pub(super) rest: [u32; 38],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct StreamParameters {
    pub(super) kind: u32,
    pub(super) capability: u32,
    pub(super) mode: u32,
    pub(super) numerator: u32,
    pub(super) denominator: u32,
    pub(super) rest: [u32; 46],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RequestBuffers {
    pub(super) count: u32,
    pub(super) kind: u32,
    pub(super) memory: u32,
    pub(super) capabilities: u32,
    pub(super) flags: [u8; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Buffer {
    pub(super) index: u32,
    pub(super) kind: u32,
    pub(super) used: u32,
    pub(super) flags: u32,
    pub(super) field: u32,
    pub(super) seconds: i64,
    pub(super) microseconds: i64,
    pub(super) timecode: [u32; 4],
    pub(super) sequence: u32,
    pub(super) memory: u32,
    // A union: the offset to map is in its first four bytes, on machines of either order.
    pub(super) offset: u32,
    #[cfg(target_pointer_width = "64")]
    pub(super) offset_rest: u32,
    pub(super) length: u32,
    pub(super) reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct QueryControl {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) name: [u8; 32],
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) step: i32,
    pub(super) default: i32,
    pub(super) flags: u32,
    pub(super) reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct SetControl {
    pub(super) id: u32,
    pub(super) value: i32,
}

pub(super) const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
pub(super) const ENUM_FMT: Opcode = opcode::read_write::<FormatDescription>(b'V', 2);
pub(super) const S_FMT: Opcode = opcode::read_write::<ImageFormat>(b'V', 5);
pub(super) const REQBUFS: Opcode = opcode::read_write::<RequestBuffers>(b'V', 8);
pub(super) const QUERYBUF: Opcode = opcode::read_write::<Buffer>(b'V', 9);
pub(super) const QBUF: Opcode = opcode::read_write::<Buffer>(b'V', 15);
pub(super) const DQBUF: Opcode = opcode::read_write::<Buffer>(b'V', 17);
pub(super) const STREAMON: Opcode = opcode::write::<u32>(b'V', 18);
pub(super) const STREAMOFF: Opcode = opcode::write::<u32>(b'V', 19);
pub(super) const S_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 22);
pub(super) const S_CTRL: Opcode = opcode::read_write::<SetControl>(b'V', 28);
pub(super) const QUERYCTRL: Opcode = opcode::read_write::<QueryControl>(b'V', 36);
pub(super) const ENUM_FRAMESIZES: Opcode = opcode::read_write::<FrameSize>(b'V', 74);

/// Structures of plain numbers, which any bytes of the kernel's make valid.
pub(super) trait Plain: Copy {}
impl Plain for Capability {}
impl Plain for FormatDescription {}
impl Plain for FrameSize {}
impl Plain for ImageFormat {}
impl Plain for StreamParameters {}
impl Plain for RequestBuffers {}
impl Plain for Buffer {}
impl Plain for QueryControl {}
impl Plain for SetControl {}
impl Plain for u32 {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it is on 64-bit machines, and on 32-bit ones.
    fn pointers<T>(wide: T, narrow: T) -> T {
        if cfg!(target_pointer_width = "64") { wide } else { narrow }
    }

    /// As `linux/videodev2.h` of 6.1 gives them, with times of 64 bits; the size of the structure is in each. Two have pointers in them.
    #[test]
    fn ioctls_are_those_of_the_kernel() {
        let ours = [QUERYCAP, ENUM_FMT, S_FMT, REQBUFS, QUERYBUF, QBUF, DQBUF, STREAMON, STREAMOFF];
        let kernel = [
            0x8068_5600,
            0xc040_5602,
            pointers(0xc0d0_5605, 0xc0cc_5605),
            0xc014_5608,
            pointers(0xc058_5609, 0xc050_5609),
            pointers(0xc058_560f, 0xc050_560f),
            pointers(0xc058_5611, 0xc050_5611),
            0x4004_5612,
            0x4004_5613,
        ];
        assert_eq!(ours, kernel);
        let ours = [S_PARM, S_CTRL, QUERYCTRL, ENUM_FRAMESIZES];
        assert_eq!(ours, [0xc0cc_5616, 0xc008_561c, 0xc044_5624, 0xc02c_564a]);
        assert_eq!(std::mem::offset_of!(Buffer, seconds), 24);
        assert_eq!(std::mem::offset_of!(Buffer, offset), 64);
        assert_eq!(std::mem::offset_of!(Buffer, length), pointers(72, 68));
        assert_eq!(std::mem::offset_of!(ImageFormat, width), pointers(8, 4));
    }
}
