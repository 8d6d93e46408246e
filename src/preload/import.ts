/**
 * `node --import /path/of/cook-daemon/dist/bundle/preload.js app.js`: the same as `--require` of
 * `preload.cjs` next to it, which starts faster.
 * @module cook-daemon/preload
 */
process.getBuiltinModule('node:module').createRequire(import.meta.url)('./preload.cjs')
