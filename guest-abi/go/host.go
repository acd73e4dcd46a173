//go:build wasip1

package sanderling

import "unsafe"

// The host's functions as they are: 0 or a length, or a negated [Errno].

//go:wasmimport sanderling_v1 frame_info
func hostFrameInfo(out unsafe.Pointer) int32

//go:wasmimport sanderling_v1 frame_read
func hostFrameRead(offset uint32, ptr unsafe.Pointer, length uint32) int32

//go:wasmimport sanderling_v1 emit
func hostEmit(channel unsafe.Pointer, channelLen uint32, ptr unsafe.Pointer, length uint32) int32

//go:wasmimport sanderling_v1 emit_evidence
func hostEmitEvidence(channel unsafe.Pointer, channelLen uint32, rect unsafe.Pointer, quality uint32) int32

//go:wasmimport sanderling_v1 metric_add
func hostMetricAdd(name unsafe.Pointer, length uint32, value float64) int32

//go:wasmimport sanderling_v1 metric_set
func hostMetricSet(name unsafe.Pointer, length uint32, value float64) int32

//go:wasmimport sanderling_v1 state_get
func hostStateGet(key unsafe.Pointer, keyLen uint32, ptr unsafe.Pointer, capacity uint32) int32

//go:wasmimport sanderling_v1 state_set
func hostStateSet(key unsafe.Pointer, keyLen uint32, ptr unsafe.Pointer, length uint32) int32

//go:wasmimport sanderling_v1 state_delete
func hostStateDelete(key unsafe.Pointer, keyLen uint32) int32

//go:wasmimport sanderling_v1 log
func hostLog(level int32, ptr unsafe.Pointer, length uint32) int32

//go:wasmimport sanderling_v1 config
func hostConfig(ptr unsafe.Pointer, capacity uint32) int32

//go:wasmimport sanderling_v1 now
func hostNow(out unsafe.Pointer) int32

//go:wasmimport sanderling_v1 image_tensor
func hostImageTensor(op, ptr unsafe.Pointer, length uint32) int32

//go:wasmimport sanderling_v1 nn_input_image
func hostNnInputImage(context, index uint32, op unsafe.Pointer) int32

//go:wasmimport sanderling_v1 nn_output_info
func hostNnOutputInfo(context, index uint32, out unsafe.Pointer) int32

// wasi-nn: 0, or a [NnErrno].

//go:wasmimport wasi_ephemeral_nn load
func nnLoad(parts unsafe.Pointer, partsLen, encoding, target uint32, graph unsafe.Pointer) int32

//go:wasmimport wasi_ephemeral_nn load_by_name
func nnLoadByName(name unsafe.Pointer, nameLen uint32, graph unsafe.Pointer) int32

//go:wasmimport wasi_ephemeral_nn init_execution_context
func nnInitExecutionContext(graph uint32, context unsafe.Pointer) int32

//go:wasmimport wasi_ephemeral_nn set_input
func nnSetInput(context, index uint32, tensor unsafe.Pointer) int32

//go:wasmimport wasi_ephemeral_nn compute
func nnCompute(context uint32) int32

//go:wasmimport wasi_ephemeral_nn get_output
func nnGetOutput(context, index uint32, ptr unsafe.Pointer, capacity uint32, written unsafe.Pointer) int32
