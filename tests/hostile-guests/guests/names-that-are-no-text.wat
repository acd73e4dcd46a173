;; An export whose name is not UTF-8.
;; ends: init in load
(module binary
  "\00asm\01\00\00\00"
  "\05\03\01\00\01"
  "\07\06\01\02\ff\fe\02\00")
