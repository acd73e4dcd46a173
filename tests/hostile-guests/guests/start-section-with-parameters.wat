;; A start section that wants a parameter.
;; ends: init in load
(module binary
  "\00asm\01\00\00\00"
  "\01\05\01\60\01\7f\00"
  "\03\02\01\00"
  "\05\03\01\00\01"
  "\07\0a\01\06memory\02\00"
  "\08\01\00"
  "\0a\04\01\02\00\0b")
