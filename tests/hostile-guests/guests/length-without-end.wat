;; A section whose length is written in more bytes than a length has.
;; ends: init in load
(module binary
  "\00asm\01\00\00\00"
  "\01\80\80\80\80\80\80\80\80\00")
