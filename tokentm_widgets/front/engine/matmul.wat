;; C = A B for matrices of float32, row-major: A (m, k), B (k, n), C (m, n), where 4 divides m and 8 divides n.
;; Addresses are in bytes; $panel is room for k rows of 8 numbers.
;;
;; Eight columns of B are first copied to one place, the panel, where the processor's fast memory holds them. Against
;; them go four rows of A at a time: their 4 x 8 sums stay in eight registers of four numbers until all of k is added.

(module
  (memory (export "memory") 1)

  (func (export "multiply")
    (param $a i32) (param $b i32) (param $c i32) (param $panel i32) (param $m i32) (param $k i32) (param $n i32)
    (local $i i32) (local $j i32) (local $left i32)
    (local $rowOfA i32) (local $rowOfB i32)       ;; bytes from one row to the next; C has the rows of B
    (local $at i32) (local $from i32) (local $to i32)
    (local $a0 i32) (local $a1 i32) (local $a2 i32) (local $a3 i32)
    (local $b0 v128) (local $b1 v128) (local $x v128)
    (local $c00 v128) (local $c01 v128) (local $c10 v128) (local $c11 v128)
    (local $c20 v128) (local $c21 v128) (local $c30 v128) (local $c31 v128)

    (local.set $rowOfA (i32.shl (local.get $k) (i32.const 2)))
    (local.set $rowOfB (i32.shl (local.get $n) (i32.const 2)))

    (loop $columns

      ;; columns j .. j + 7 of B into the panel
      (local.set $from (i32.add (local.get $b) (i32.shl (local.get $j) (i32.const 2))))
      (local.set $to (local.get $panel))
      (local.set $left (local.get $k))
      (loop $copy
        (v128.store (local.get $to) (v128.load (local.get $from)))
        (v128.store offset=16 (local.get $to) (v128.load offset=16 (local.get $from)))
        (local.set $from (i32.add (local.get $from) (local.get $rowOfB)))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (br_if $copy (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))

      (local.set $i (i32.const 0))
      (local.set $a0 (local.get $a))
      (local.set $to (i32.add (local.get $c) (i32.shl (local.get $j) (i32.const 2))))
      (loop $rows

        (local.set $a1 (i32.add (local.get $a0) (local.get $rowOfA)))
        (local.set $a2 (i32.add (local.get $a1) (local.get $rowOfA)))
        (local.set $a3 (i32.add (local.get $a2) (local.get $rowOfA)))
        (local.set $c00 (v128.const f32x4 0 0 0 0)) (local.set $c01 (v128.const f32x4 0 0 0 0))
        (local.set $c10 (v128.const f32x4 0 0 0 0)) (local.set $c11 (v128.const f32x4 0 0 0 0))
        (local.set $c20 (v128.const f32x4 0 0 0 0)) (local.set $c21 (v128.const f32x4 0 0 0 0))
        (local.set $c30 (v128.const f32x4 0 0 0 0)) (local.set $c31 (v128.const f32x4 0 0 0 0))
        (local.set $at (local.get $panel))
        (local.set $left (local.get $k))
        (loop $sum
          (local.set $b0 (v128.load (local.get $at)))
          (local.set $b1 (v128.load offset=16 (local.get $at)))
          (local.set $x (v128.load32_splat (local.get $a0)))
          (local.set $c00 (f32x4.add (local.get $c00) (f32x4.mul (local.get $x) (local.get $b0))))
          (local.set $c01 (f32x4.add (local.get $c01) (f32x4.mul (local.get $x) (local.get $b1))))
          (local.set $x (v128.load32_splat (local.get $a1)))
          (local.set $c10 (f32x4.add (local.get $c10) (f32x4.mul (local.get $x) (local.get $b0))))
          (local.set $c11 (f32x4.add (local.get $c11) (f32x4.mul (local.get $x) (local.get $b1))))
          (local.set $x (v128.load32_splat (local.get $a2)))
          (local.set $c20 (f32x4.add (local.get $c20) (f32x4.mul (local.get $x) (local.get $b0))))
          (local.set $c21 (f32x4.add (local.get $c21) (f32x4.mul (local.get $x) (local.get $b1))))
          (local.set $x (v128.load32_splat (local.get $a3)))
          (local.set $c30 (f32x4.add (local.get $c30) (f32x4.mul (local.get $x) (local.get $b0))))
          (local.set $c31 (f32x4.add (local.get $c31) (f32x4.mul (local.get $x) (local.get $b1))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (local.set $a0 (i32.add (local.get $a0) (i32.const 4)))
          (local.set $a1 (i32.add (local.get $a1) (i32.const 4)))
          (local.set $a2 (i32.add (local.get $a2) (i32.const 4)))
          (local.set $a3 (i32.add (local.get $a3) (i32.const 4)))
          (br_if $sum (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))

        (local.set $from (local.get $to))
        (v128.store (local.get $from) (local.get $c00)) (v128.store offset=16 (local.get $from) (local.get $c01))
        (local.set $from (i32.add (local.get $from) (local.get $rowOfB)))
        (v128.store (local.get $from) (local.get $c10)) (v128.store offset=16 (local.get $from) (local.get $c11))
        (local.set $from (i32.add (local.get $from) (local.get $rowOfB)))
        (v128.store (local.get $from) (local.get $c20)) (v128.store offset=16 (local.get $from) (local.get $c21))
        (local.set $from (i32.add (local.get $from) (local.get $rowOfB)))
        (v128.store (local.get $from) (local.get $c30)) (v128.store offset=16 (local.get $from) (local.get $c31))
        (local.set $to (i32.add (local.get $from) (local.get $rowOfB)))
        (local.set $a0 (local.get $a3))           ;; it has run to the end of its row
        (br_if $rows (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (local.get $m))))

      (br_if $columns (i32.lt_u (local.tee $j (i32.add (local.get $j) (i32.const 8))) (local.get $n))))))
