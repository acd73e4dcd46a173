// Package sanderling is for writing guests in Go: see [Export].
//
// The layouts and numbers are those of the crate sanderling-guest; a test holds this package to them.
package sanderling

import "bytes"

// ABI is the version of the contract.
const ABI = 1

// Error numbers, which host functions return negated.
const (
	ENOENT  Errno = 2
	E2BIG   Errno = 7
	EAGAIN  Errno = 11
	EACCES  Errno = 13
	EFAULT  Errno = 14
	EINVAL  Errno = 22
	ENOSPC  Errno = 28
	ENODATA Errno = 61
)

// Kind is what a frame's content is.
type Kind uint16

// The kinds of frames.
const (
	KindBytes  Kind = 0
	KindJSON   Kind = 1
	KindImage  Kind = 2
	KindSeries Kind = 3
)

// Format is how a frame's content is laid out.
type Format uint16

// The formats of frames.
const (
	FormatNone   Format = 0
	FormatGray8  Format = 1
	FormatRGB8   Format = 2
	FormatBGR8   Format = 3
	FormatYUYV   Format = 4
	FormatNV12   Format = 5
	FormatGray16 Format = 6
	FormatJPEG   Format = 7
	FormatPNG    Format = 8
	FormatF32    Format = 16
	FormatI16    Format = 17
	FormatI32    Format = 18
)

// FrameHeader is the header of a frame.
type FrameHeader struct {
	Seq            uint64 // counts the sensor's frames, dropped ones included
	CapturedUnixNs int64  // wall-clock time of capture
	CapturedMonoNs uint64 // monotonic time of capture
	Len            uint32 // bytes of content
	Kind           Kind
	Format         Format
	Width          uint32   // pixels a row; samples a channel in a series
	Height         uint32   // rows
	Stride         uint32   // bytes from one row to the next
	Channels       uint32   // of a series, interleaved
	RateMhz        uint32   // samples a second of a series, in thousandths of a hertz
	Dropped        uint32   // frames dropped before this one
	sensor         [32]byte // the sensor's name, padded with zeros
	_              [8]byte
}

// Sensor is the sensor's name.
func (header *FrameHeader) Sensor() string {
	name, _, _ := bytes.Cut(header.sensor[:], []byte{0})
	return string(name)
}

// Color is the channels of a tensor.
type Color uint8

// The channels of tensors.
const (
	ColorGray Color = 0
	ColorRGB  Color = 1
	ColorBGR  Color = 2
)

// Layout is the order of a tensor's elements.
type Layout uint8

// The orders of elements.
const (
	LayoutNCHW Layout = 0
	LayoutNHWC Layout = 1
)

// Element is the type of a tensor's elements, as an [ImageOp] names it.
type Element uint8

// The types of elements.
const (
	ElementF32 Element = 0
	ElementF16 Element = 1
	ElementU8  Element = 2
	ElementI8  Element = 3
)

// Filter is how pixels are weighed when the size changes.
type Filter uint8

// The filters.
const (
	FilterNearest  Filter = 0
	FilterBilinear Filter = 1
	FilterArea     Filter = 2
)

// ImageOp is how the current frame becomes a tensor. An element of type f32 or f16 is (pixel / 255 - mean) * scale; with u8 and i8, mean and
// scale are zero, and an element is the pixel, or the pixel minus 128.
type ImageOp struct {
	Crop          [4]uint32 // x, y, width, height in pixels of the frame; width and height 0: the whole frame
	Width, Height uint32    // of the tensor, 1 to 4096
	Color         Color
	Layout        Layout
	Element       Element
	Filter        Filter
	Mean          [3]float32 // subtracted from each channel
	Scale         [3]float32 // multiplied to each channel
	_             [12]byte
}

// Gray is the whole frame as gray f32 elements in 0..1.
func Gray(width, height uint32) ImageOp {
	return ImageOp{Width: width, Height: height, Filter: FilterBilinear, Scale: [3]float32{1, 1, 1}}
}

// TensorType is the type of a tensor's elements, with the numbers of wasi-nn 0.6.
type TensorType uint32

// The types of tensors.
const (
	TensorF16 TensorType = 0
	TensorF32 TensorType = 1
	TensorF64 TensorType = 2
	TensorU8  TensorType = 3
	TensorI32 TensorType = 4
	TensorI64 TensorType = 5
)

// OutputInfo is the type and shape of an output.
type OutputInfo struct {
	Type TensorType
	Rank uint32
	Dims [8]uint32
}

// Rect is a rectangle in a frame, in pixels; width and height 0: the whole frame.
type Rect struct{ X, Y, Width, Height uint32 }

// The bounds of what a module keeps.
const (
	StateMaxKey   = 256
	StateMaxValue = 65536
	StateMaxKeys  = 4096
)

// Time is the device's time.
type Time struct {
	UnixNs int64  // since 1970
	MonoNs uint64 // since some moment, never going back
}

// Level is the level of a log line.
type Level int32

// The levels.
const (
	LevelError Level = 0
	LevelWarn  Level = 1
	LevelInfo  Level = 2
	LevelDebug Level = 3
	LevelTrace Level = 4
)
