//go:build wasip1

package sanderling

import (
	"encoding/json"
	"errors"
	"fmt"
	"unsafe"
)

// Guest is what a module does. [Export] makes it the module's guest.
type Guest interface {
	// Start reads the configuration and loads the models.
	Start() error
	// Frame looks at one frame and emits what it finds. An error ends the guest, which is then started again a few times.
	Frame(header *FrameHeader) error
}

// Errno is a failed call of the host.
type Errno int32

func (errno Errno) Error() string { return fmt.Sprintf("the host refused with errno %d", int32(errno)) }

// The guest's own fault codes, as those of the SDK for Rust.
const (
	faultOther  = 1
	faultConfig = 1001
)

// ErrConfig is for a configuration that does not fit: its fault code is 1001.
var ErrConfig = errors.New("the config does not fit")

var guest Guest

// Export makes a value the module's guest. Call it from an init function; main stays empty:
//
//	func init() { sanderling.Export(&counter{}) }
//	func main() {}
//
// Build with GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w".
func Export(of Guest) { guest = of }

//go:wasmexport sanderling_abi
func exportedAbi() int32 { return ABI }

//go:wasmexport sanderling_start
func exportedStart() int32 { return code(guest.Start()) }

//go:wasmexport sanderling_frame
func exportedFrame() int32 {
	var header FrameHeader
	if err := check(hostFrameInfo(unsafe.Pointer(&header))); err != nil {
		return code(err)
	}
	return code(guest.Frame(&header))
}

func code(err error) int32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrConfig):
		Log(LevelError, err.Error())
		return faultConfig
	default:
		Log(LevelError, err.Error())
		return faultOther
	}
}

func check(result int32) error {
	if result < 0 {
		return Errno(-result)
	}
	return nil
}

// Read copies the current frame from offset on, as far as it fits, and returns how much that was.
func Read(offset uint32, out []byte) (int, error) {
	read := hostFrameRead(offset, unsafe.Pointer(unsafe.SliceData(out)), uint32(len(out)))
	return max(int(read), 0), check(read)
}

// Content is the content of the current frame.
func Content(header *FrameHeader) ([]byte, error) {
	content := make([]byte, header.Len)
	read, err := Read(0, content)
	return content[:read], err
}

// Emit queues a record on a channel that the deployment grants: EACCES without the grant, EAGAIN above the rate, E2BIG above 64 KiB.
func Emit(channel string, record []byte) error {
	name, content := unsafe.Pointer(unsafe.StringData(channel)), unsafe.Pointer(unsafe.SliceData(record))
	return check(hostEmit(name, uint32(len(channel)), content, uint32(len(record))))
}

// EmitJSON queues a record as JSON; see [Emit].
func EmitJSON(channel string, record any) error {
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return Emit(channel, text)
}

// EmitEvidence has a part of the current image encoded as JPEG and queued on a channel, with the grants evidence and emit:<channel>. It returns
// the quality that was used.
func EmitEvidence(channel string, rect Rect, quality uint32) (int, error) {
	result := hostEmitEvidence(unsafe.Pointer(unsafe.StringData(channel)), uint32(len(channel)), unsafe.Pointer(&rect), quality)
	return max(int(result), 0), check(result)
}

// MetricAdd adds to a counter, which is reported with the module.
func MetricAdd(name string, value float64) error {
	return check(hostMetricAdd(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), value))
}

// MetricSet sets a gauge, which is reported with the module.
func MetricSet(name string, value float64) error {
	return check(hostMetricSet(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), value))
}

// StateGet is the value of a key that the module keeps over restarts and updates, with the grant state:<bytes>; ENOENT where it has none.
func StateGet(key string) ([]byte, error) {
	value := make([]byte, 256)
	for {
		length := hostStateGet(unsafe.Pointer(unsafe.StringData(key)), uint32(len(key)), unsafe.Pointer(unsafe.SliceData(value)), uint32(len(value)))
		if length < 0 {
			return nil, check(length)
		}
		if int(length) <= len(value) {
			return value[:length], nil
		}
		value = make([]byte, length)
	}
}

// StateSet sets the value of a key: ENOSPC above the quota or the number of keys.
func StateSet(key string, value []byte) error {
	name, content := unsafe.Pointer(unsafe.StringData(key)), unsafe.Pointer(unsafe.SliceData(value))
	return check(hostStateSet(name, uint32(len(key)), content, uint32(len(value))))
}

// StateDelete forgets the value of a key: ENOENT where there is none.
func StateDelete(key string) error {
	return check(hostStateDelete(unsafe.Pointer(unsafe.StringData(key)), uint32(len(key))))
}

// Log writes a line to the device's log.
func Log(level Level, line string) {
	hostLog(int32(level), unsafe.Pointer(unsafe.StringData(line)), uint32(len(line)))
}

// ConfigText is the deployment's config as JSON, null where it has none.
func ConfigText() []byte {
	text := make([]byte, max(hostConfig(nil, 0), 0))
	hostConfig(unsafe.Pointer(unsafe.SliceData(text)), uint32(len(text)))
	return text
}

// Now is the device's time.
func Now() Time {
	var time Time
	hostNow(unsafe.Pointer(&time))
	return time
}

// ImageTensor makes the current frame a tensor in out, natively.
func ImageTensor(op *ImageOp, out []byte) error {
	return check(hostImageTensor(unsafe.Pointer(op), unsafe.Pointer(unsafe.SliceData(out)), uint32(len(out))))
}
