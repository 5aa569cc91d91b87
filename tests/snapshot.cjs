// Reads a snapshot of examples/snapshot/leak.c with memlab, and finds by its dominators what keeps
// most of the memory.  `node tests/snapshot.cjs FILE`, with @memlab/core on NODE_PATH; run by
// `make test-snapshot`.
'use strict';

const {analysis, config, info, utils} = require('@memlab/core');

let passed = 0, failed = 0;

function check(what, holds) {
    console.log(`${holds ? 'ok' : 'FAILED'}: ${what}`);
    if (holds) passed++; else failed++;
}

// The chain of dominators from NODE's up to the first node, which is its own.
function dominators(node) {
    const chain = [];
    for (let n = node.dominatorNode; n && n.id !== 1; n = n.dominatorNode) chain.push(n);
    return chain;
}

async function main(file) {
    config.muteConsole = true;
    info.overwrite = () => {};
    const started = Date.now();
    const heap = await utils.getSnapshotFromFile(file, {buildNodeIdIndex: true});
    analysis.preparePathFinder(heap);  // shortest paths, dominators, retained sizes

    const counts = new Map();
    let lines = 0, notes = 0, reached = 0, line = null, largest = null;
    heap.nodes.forEach(node => {
        counts.set(node.name, (counts.get(node.name) || 0) + 1);
        if (node.hasPathEdge) reached++;
        if (node.name === 'struct line') { lines++; line = line || node; }
        if (node.name === 'struct note' && node.dominatorNode.name === 'struct line' &&
            node.referrers.some(e => e.type === 'internal' && utils.isWeakMapEdgeToValue(e) &&
                e.fromNode.id === node.dominatorNode.id)) notes++;
        // The program's objects, from which one looks for what holds much.
        if (node.type === 'object' && (!largest || node.retainedSize > largest.retainedSize))
            largest = node;
    });
    const total = heap.nodes.get(0).retainedSize;
    const chain = dominators(line).map(n => n.name);

    check(`memlab reads ${heap.nodes.length} nodes and ${heap.edges.length} edges`,
        heap.nodes.length > 1000000 && heap.edges.length > 1000000);
    check(`${lines} objects have the type struct line`, lines > 900000);
    check(`a way leads from the roots to all but a few of them (${reached})`,
        reached > 0.999 * heap.nodes.length);
    check(`what retains most is a ${largest.name}, ${largest.retainedSize} of ${total} bytes`,
        largest.name === 'struct registry' && largest.retainedSize > 0.95 * total);
    check(`that is dominated by "${largest.dominatorNode.name}"`,
        largest.dominatorNode.name === 'registry in leak');
    check(`the dominators of a line lead from its log to it`,
        chain.includes('struct log') && chain.includes('struct listener') &&
        chain.indexOf('struct registry') > chain.indexOf('struct listener') &&
        chain.includes('registry in leak') && chain.includes('(static data)'));
    check(`${notes} notes in a weak table are held by their lines, all that there are`,
        notes > 9000 && notes === counts.get('struct note'));
    check('its way begins with the field "listeners"', largest.references.some(
        e => e.type === 'property' && e.name_or_index === 'listeners'));
    console.log(`memlab took ${Date.now() - started} ms`);
}

main(process.argv[2]).then(() => {
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed > 0 || passed === 0 ? 1 : 0);
}, error => {
    console.error(error);
    process.exit(1);
});
