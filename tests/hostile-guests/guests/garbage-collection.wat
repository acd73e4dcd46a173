;; Allocates objects that a collector would have to free.
;; ends: init in load
(module
  (type $node (struct (field (mut (ref null $node)))))
  (memory (export "memory") 1)
  (func (export "sanderling_abi") (result i32) (i32.const 1))
  (func (export "sanderling_frame") (result i32) (drop (struct.new_default $node)) (i32.const 0)))
