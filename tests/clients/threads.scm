;; Guile's threads: each allocates, some wait for others, all are stopped by collections.  (Guile
;; 3.0.8 itself crashes or hangs in about one run in fifty of this, with Debian's libgc.)

(use-modules (ice-9 threads))

(define (show name value) (display name) (display ": ") (write value) (newline))

(define (work seed)
  (let loop ((i 0) (sum 0))
    (if (= i 120)
        sum
        (let ((l (map (lambda (x) (list x (number->string (+ x seed)))) (iota 300))))
          (loop (+ i 1)
                (+ sum (apply + (map (lambda (p) (+ (car p) (string-length (cadr p)))) l))))))))

(define (threads)
  (let* ((workers (map (lambda (s) (call-with-new-thread (lambda () (work s)))) (iota 4)))
         (results (map join-thread workers)))
    (show "threads" results))
  (show "parallel" (apply + (par-map work (iota 8))))
  (let ((lock (make-mutex)) (condition (make-condition-variable)) (queue '()) (got 0))
    (let ((consumer
           (call-with-new-thread
            (lambda ()
              (let loop ()
                (with-mutex lock
                  (while (null? queue) (wait-condition-variable condition lock))
                  (set! got (+ got (length (car queue))))
                  (set! queue (cdr queue)))
                (if (< got 20000) (loop) got))))))
      (do ((i 0 (+ i 1))) ((= i 200))
        (with-mutex lock
          (set! queue (cons (make-list 100 i) queue))
          (signal-condition-variable condition))
        (if (zero? (modulo i 50)) (gc)))
      (show "queue" (join-thread consumer)))))

(threads)
