(* bench/workloads/binary_trees.c in OCaml, whose generational collector is the one to compare with.
   The command line and the output are those of bench/runner.c. *)

type tree = Empty | Node of tree * tree

let rec make depth =
  if depth = 0 then Node (Empty, Empty)
  else
    let left = make (depth - 1) in
    let right = make (depth - 1) in
    Node (left, right)

let rec count = function
  | Empty -> 0
  | Node (left, right) -> 1 + count left + count right

let nodes_of depth = (2 lsl depth) - 1

let expect what found expected =
  if found <> expected then begin
    Printf.eprintf "bench-ocaml: binary_trees: wrong result: %s is %d and should be %d\n" what
      found expected;
    exit 1
  end

let scaled_depth depth scale least =
  let rec adjust depth scale =
    if scale < 0.75 then adjust (depth - 1) (scale *. 2.)
    else if scale >= 1.5 then adjust (depth + 1) (scale /. 2.)
    else max depth least
  in
  adjust depth scale

let run scale =
  let least = 4 and most = scaled_depth 18 scale 6 in
  expect "the stretch tree's node count" (count (make (most + 1))) (nodes_of (most + 1));
  let long_lived = make most in
  let rec each depth =
    if depth <= most then begin
      let iterations = 1 lsl (most - depth + least) in
      let total = ref 0 in
      for _ = 1 to iterations do
        total := !total + count (make depth)
      done;
      expect "the short-lived trees' node count" !total (iterations * nodes_of depth);
      each (depth + 2)
    end
  in
  each least;
  expect "the long-lived tree's node count" (count long_lived) (nodes_of most)

let () =
  match Array.to_list Sys.argv with
  | [ _; "list" ] -> print_string "binary_trees\tthe same in OCaml\n"
  | [ _; "run"; "binary_trees" ] | [ _; "run"; "binary_trees"; _ ] ->
      let scale = if Array.length Sys.argv = 4 then float_of_string Sys.argv.(3) else 1. in
      run scale;
      let stat = Gc.quick_stat () in
      Printf.printf "minor=%d\nfull=%d\n" stat.Gc.minor_collections stat.Gc.major_collections
  | _ ->
      prerr_endline "usage: bench-ocaml list | run binary_trees [SCALE]";
      exit 2
