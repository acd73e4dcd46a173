;; A component, not a module.
;; ends: init in load
(component)
