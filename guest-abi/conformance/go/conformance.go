//go:build wasip1

// The conformance guest of the Go bindings: see ../README.md.
package main

import (
	"bytes"
	"fmt"
	"unsafe"

	"sanderling"
)

type conformance struct{}

func init() { sanderling.Export(conformance{}) }
func main() {}

func say(format string, values ...any) { sanderling.Emit("said", fmt.Appendf(nil, format, values...)) }

func (conformance) Start() error {
	say("config %s", sanderling.ConfigText())
	sanderling.Log(sanderling.LevelWarn, "logged")
	return nil
}

func (conformance) Frame(header *sanderling.FrameHeader) error {
	sayNumbers()
	content, err := sayFrame(header)
	if err != nil {
		return err
	}
	if err := sayKept(); err != nil {
		return err
	}
	if err := sayImage(content); err != nil {
		return err
	}
	return sayModel()
}

func sayNumbers() {
	say("abi %d", sanderling.ABI)
	say("errno %d %d %d %d %d %d %d %d", sanderling.ENOENT, sanderling.E2BIG, sanderling.EAGAIN, sanderling.EACCES, sanderling.EFAULT,
		sanderling.EINVAL, sanderling.ENOSPC, sanderling.ENODATA)
	say("kind %d %d %d %d", sanderling.KindBytes, sanderling.KindJSON, sanderling.KindImage, sanderling.KindSeries)
	say("format %d %d %d %d %d %d %d %d %d %d %d %d", sanderling.FormatNone, sanderling.FormatGray8, sanderling.FormatRGB8,
		sanderling.FormatBGR8, sanderling.FormatYUYV, sanderling.FormatNV12, sanderling.FormatGray16, sanderling.FormatJPEG,
		sanderling.FormatPNG, sanderling.FormatF32, sanderling.FormatI16, sanderling.FormatI32)
	say("level %d %d %d %d %d", sanderling.LevelError, sanderling.LevelWarn, sanderling.LevelInfo, sanderling.LevelDebug,
		sanderling.LevelTrace)
	say("color %d %d %d", sanderling.ColorGray, sanderling.ColorRGB, sanderling.ColorBGR)
	say("layout %d %d", sanderling.LayoutNCHW, sanderling.LayoutNHWC)
	say("element %d %d %d %d", sanderling.ElementF32, sanderling.ElementF16, sanderling.ElementU8, sanderling.ElementI8)
	say("filter %d %d %d", sanderling.FilterNearest, sanderling.FilterBilinear, sanderling.FilterArea)
	say("tensor %d %d %d %d %d %d", sanderling.TensorF16, sanderling.TensorF32, sanderling.TensorF64, sanderling.TensorU8,
		sanderling.TensorI32, sanderling.TensorI64)
}

func sayFrame(f *sanderling.FrameHeader) ([]byte, error) {
	say("frame %d %d %d %d %d %d %d %d %d %d %d %d %s", f.Seq, f.CapturedUnixNs, f.CapturedMonoNs, f.Len, f.Kind, f.Format, f.Width, f.Height,
		f.Stride, f.Channels, f.RateMhz, f.Dropped, f.Sensor())
	content, err := sanderling.Content(f)
	say("content %s", content)
	time := sanderling.Now()
	say("time %d %d", time.UnixNs, time.MonoNs)
	return content, err
}

func kept() string {
	value, err := sanderling.StateGet("key")
	if err == sanderling.ENOENT {
		return "none"
	}
	return string(value)
}

func sayKept() error {
	first := kept()
	if err := sanderling.StateSet("key", []byte("value")); err != nil {
		return err
	}
	second := kept()
	if err := sanderling.StateDelete("key"); err != nil {
		return err
	}
	say("state %s %s %s %d %d %d", first, second, kept(), sanderling.StateMaxKey, sanderling.StateMaxValue, sanderling.StateMaxKeys)
	if err := sanderling.MetricAdd("count", 2.5); err != nil {
		return err
	}
	if err := sanderling.MetricSet("level", -1.5); err != nil {
		return err
	}
	say("metrics 0 0")
	quality, err := sanderling.EmitEvidence("said", sanderling.Rect{X: 1, Y: 2, Width: 3, Height: 4}, 80)
	say("evidence %d", quality)
	return err
}

func sayImage(content []byte) error {
	op := sanderling.ImageOp{
		Crop: [4]uint32{1, 2, 3, 4}, Width: 5, Height: 6, Color: sanderling.ColorBGR, Layout: sanderling.LayoutNHWC,
		Element: sanderling.ElementF16, Filter: sanderling.FilterArea, Mean: [3]float32{0.5, 0.25, 0.125}, Scale: [3]float32{2, 4, 8},
	}
	say("op %x", unsafe.Slice((*byte)(unsafe.Pointer(&op)), unsafe.Sizeof(op)))
	whole := sanderling.ImageOp{Width: 8, Height: 8, Element: sanderling.ElementU8, Filter: sanderling.FilterNearest}
	tensor := make([]byte, 64)
	err := sanderling.ImageTensor(&whole, tensor)
	say("image 0 %d", bytes.Compare(tensor, content))
	return err
}

func sayModel() error {
	_, _ = sanderling.ModelFromONNX(nil)
	model, err := sanderling.LoadModel("conv")
	if err != nil {
		return err
	}
	op := sanderling.Gray(8, 8)
	if err := model.InputImage(0, &op); err != nil {
		return err
	}
	if err := model.Input(0, sanderling.TensorF32, []uint32{1, 1, 8, 8}, make([]byte, 256)); err != nil {
		return err
	}
	if err := model.Compute(); err != nil {
		return err
	}
	output := make([]byte, 8)
	written, err := model.Output(0, output)
	if err != nil {
		return err
	}
	say("model 0 0 0 0 0 0 %d", written)
	say("output %x", output)
	info, err := model.OutputInfo(0)
	say("info %d %d %d %d", info.Type, info.Rank, info.Dims[0], info.Dims[1])
	return err
}
