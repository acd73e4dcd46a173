//go:build wasip1

package sanderling

import (
	"fmt"
	"runtime"
	"unsafe"
)

// NnErrno is a failed inference call in wasi-nn's numbers: 1 invalid argument, 2 invalid encoding, 3 missing memory, 4 busy, 5 runtime error,
// 6 unsupported operation, 7 too large, 8 not found.
type NnErrno int32

func (errno NnErrno) Error() string { return fmt.Sprintf("the inference failed with %d", int32(errno)) }

// Model is an execution context of a model.
type Model struct{ context uint32 }

// tensor as wasi-nn lays it out; a pointer of Go's own has 64 bits in memory.
type tensor struct {
	dims, dimsLen uint32
	element       uint8
	data, dataLen uint32
}

func checkNn(result int32) error {
	if result != 0 {
		return NnErrno(result)
	}
	return nil
}

func address(pointer unsafe.Pointer) uint32 { return uint32(uintptr(pointer)) }

// LoadModel loads the model that the deployment binds to a name.
func LoadModel(name string) (Model, error) {
	var graph uint32
	var model Model
	if err := checkNn(nnLoadByName(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), unsafe.Pointer(&graph))); err != nil {
		return model, err
	}
	return model, checkNn(nnInitExecutionContext(graph, unsafe.Pointer(&model.context)))
}

// wasi-nn's numbers for a model's encoding, and for where it runs.
const (
	encodingONNX = 1
	targetCPU    = 0
)

// ModelFromONNX loads an ONNX model that the guest brings itself, with the grant infer:load.
func ModelFromONNX(bytes []byte) (Model, error) {
	var graph uint32
	var model Model
	part := [2]uint32{address(unsafe.Pointer(unsafe.SliceData(bytes))), uint32(len(bytes))}
	err := checkNn(nnLoad(unsafe.Pointer(&part), 1, encodingONNX, targetCPU, unsafe.Pointer(&graph)))
	runtime.KeepAlive(bytes)
	if err != nil {
		return model, err
	}
	return model, checkNn(nnInitExecutionContext(graph, unsafe.Pointer(&model.context)))
}

// InputImage makes the current frame an input, natively: the pixels never enter the guest.
func (model Model) InputImage(index uint32, op *ImageOp) error {
	return check(hostNnInputImage(model.context, index, unsafe.Pointer(op)))
}

// Input sets an input from little-endian bytes.
func (model Model) Input(index uint32, element TensorType, dims []uint32, data []byte) error {
	given := tensor{
		dims: address(unsafe.Pointer(unsafe.SliceData(dims))), dimsLen: uint32(len(dims)), element: uint8(element),
		data: address(unsafe.Pointer(unsafe.SliceData(data))), dataLen: uint32(len(data)),
	}
	err := checkNn(nnSetInput(model.context, index, unsafe.Pointer(&given)))
	runtime.KeepAlive(dims)
	runtime.KeepAlive(data)
	return err
}

// Compute runs the model.
func (model Model) Compute() error { return checkNn(nnCompute(model.context)) }

// Output copies an output and returns its length.
func (model Model) Output(index uint32, out []byte) (int, error) {
	var written uint32
	err := checkNn(nnGetOutput(model.context, index, unsafe.Pointer(unsafe.SliceData(out)), uint32(len(out)), unsafe.Pointer(&written)))
	return int(written), err
}

// OutputInfo is the type and shape of an output.
func (model Model) OutputInfo(index uint32) (OutputInfo, error) {
	var info OutputInfo
	return info, check(hostNnOutputInfo(model.context, index, unsafe.Pointer(&info)))
}
