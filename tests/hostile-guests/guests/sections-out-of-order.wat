;; Code before it is declared.
;; ends: init in load
(module binary
  "\00asm\01\00\00\00"
  "\0a\04\01\02\00\0b"
  "\01\04\01\60\00\00"
  "\03\02\01\00")
