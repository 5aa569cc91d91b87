;; What of Guile leans on its collector: guardians, weak tables, finalized ports.  Prints nothing
;; that depends on how conservative the collector is: "most" of a thousand.

(use-modules (ice-9 weak-vector) (srfi srfi-1))

(define (show name value) (display name) (display ": ") (write value) (newline))
(define many 1000)
(define (most? n) (>= n (- many (quotient many 10))))
(define (few? n) (<= n (quotient many 10)))

;; Calls F N levels down, so that what it leaves on the stack is overwritten later.
(define (far-below n f) (if (zero? n) (f) (let ((x (far-below (- n 1) f))) x)))
(define (wipe n) (if (zero? n) 0 (+ 1 (wipe (- n 1)))))
(define (collect)
  (do ((i 0 (+ i 1))) ((= i 4))
    (wipe 2000)
    (gc)))

(define (guardians)
  (let ((g (make-guardian)))
    (far-below 50 (lambda () (do ((i 0 (+ i 1))) ((= i many)) (g (list i 'guarded)))))
    (collect)
    (let loop ((n 0) (sum 0) (whole #t))
      (let ((x (g)))
        (if x
            (loop (+ n 1) (+ sum (car x)) (and whole (eq? (cadr x) 'guarded)))
            (show "guardian" (list (most? n) (<= n many) whole)))))
    (let ((kept (map (lambda (i) (list i)) (iota 100))))
      (for-each g kept)
      (collect)
      (show "guardian of what lives" (list (g) (length kept))))))

(define (weak-tables)
  (let ((weak-key (make-weak-key-hash-table)) (weak-value (make-weak-value-hash-table))
        (kept (map (lambda (i) (cons 'key i)) (iota 500))))
    (for-each (lambda (k) (hashq-set! weak-key k (* 2 (cdr k)))) kept)
    (far-below 50 (lambda ()
                    (do ((i 0 (+ i 1))) ((= i many))
                      (hashq-set! weak-key (cons 'dead i) i)
                      (hashv-set! weak-value i (list i i)))))
    (let ((values (map (lambda (i) (list 'value i)) (iota 500))))
      (for-each (lambda (v) (hashv-set! weak-value (+ 100000 (cadr v)) v)) values)
      (collect)
      (show "weak keys kept"
            (every (lambda (k) (eqv? (hashq-ref weak-key k) (* 2 (cdr k)))) kept))
      (show "weak keys gone" (few? (- (hash-fold (lambda (k v n) (+ n 1)) 0 weak-key) 500)))
      (show "weak values kept"
            (every (lambda (v) (eq? (hashv-ref weak-value (+ 100000 (cadr v))) v)) values))
      (show "weak values gone"
            (few? (count (lambda (i) (hashv-ref weak-value i)) (iota many)))))))

(define (weak-vectors)
  (let* ((kept (map list (iota 100))) (v (make-weak-vector (+ many 100) #f)))
    (for-each (lambda (x) (weak-vector-set! v (car x) x)) kept)
    (far-below 50 (lambda ()
                    (do ((i 0 (+ i 1))) ((= i many)) (weak-vector-set! v (+ 100 i) (list i)))))
    (collect)
    (show "weak vector kept" (every (lambda (x) (eq? (weak-vector-ref v (car x)) x)) kept))
    (show "weak vector gone"
          (few? (count (lambda (i) (weak-vector-ref v (+ 100 i))) (iota many))))))

;; Ports that nobody closes are closed by their finalizers: there would be too many files open.
(define (ports)
  (do ((i 0 (+ i 1))) ((= i 300))
    (open-input-file "/dev/null")
    (if (zero? (modulo i 100)) (begin (gc) (gc))))
  (show "ports" (char? (read-char (open-input-file "/etc/passwd")))))

;; A deep recursion: the stack is as large as the heap.
(define (depth)
  (define (down n) (if (zero? n) '() (cons n (down (- n 1)))))
  (show "depth" (length (down 200000))))

;; Continuations that are taken up again, with a collection in between.
(define (continuations)
  (let ((again #f) (n 0))
    (let ((l (map (lambda (x) (call/cc (lambda (k) (if (= x 5) (set! again k)) (list x))))
                  (iota 10))))
      (gc)
      (set! n (+ n 1))
      (if (< n 5)
          (again (list n))
          (show "continuations" l)))))

(guardians)
(weak-tables)
(weak-vectors)
(ports)
(depth)
(continuations)
