#!/bin/bash
# Has a timeline read by a package that isn't ours: @tracerbench/trace-model, from the npm registry,
# builds the model that a viewer would, and the slices of phases must lie in those of collections.
#
#     tests/trace_model.sh PROGRAM [ARGUMENT...]
#
# PROGRAM is run with the option trace; the package is on NODE_PATH (make check-trace).
set -eu

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
CAIRN_TRACE=$directory/trace.json "$@" >"$directory/output" 2>&1 || {
    cat "$directory/output"
    exit 1
}
cat >"$directory/check.cjs" <<'END'
const { readFileSync } = require('fs');
const { buildModel } = require('@tracerbench/trace-model');
const kinds = ['minor', 'full', 'compact'];
const model = buildModel(JSON.parse(readFileSync(process.argv[2], 'utf8')));
let collections = 0, phases = 0;
for (const owner of model.processes) {
    for (const thread of owner.threads) {
        for (const slice of thread.events.filter((event) => event.isComplete())) {
            const top = slice.parent === undefined;
            if (top !== slice.hasCategory('gc') || top !== kinds.includes(slice.name))
                if (slice.name !== 'compact') throw new Error(`${slice.name} is misplaced`);
            if (top) collections++;
            else if (kinds.includes(slice.parent.name)) phases++;
            else throw new Error(`${slice.name} is in ${slice.parent.name}`);
        }
    }
}
if (collections === 0 || phases < 8 * collections)
    throw new Error(`${collections} collections with ${phases} phases`);
console.log(`trace-model reads ${collections} collections with ${phases} phases`);
END
node "$directory/check.cjs" "$directory/trace.json"
