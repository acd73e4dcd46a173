//go:build wasip1

// {{name}} emits the mean of each window of a series.
package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"{{name}}/sanderling"
)

type mean struct{}

func init() { sanderling.Export(mean{}) }
func main() {}

func (mean) Start() error { return nil }

func (mean) Frame(header *sanderling.FrameHeader) error {
	content, err := sanderling.Content(header)
	if err != nil {
		return err
	}
	sum, count := 0.0, len(content)/4
	for at := range count {
		sum += float64(math.Float32frombits(binary.LittleEndian.Uint32(content[at*4:])))
	}
	// sanderling.EmitJSON takes any value, and 1.5 MB of encoding/json.
	record := fmt.Appendf(nil, `{"seq":%d,"mean":%v}`, header.Seq, sum/float64(max(count, 1)))
	return sanderling.Emit("{{name}}", record)
}
