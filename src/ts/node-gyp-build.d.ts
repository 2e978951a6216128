declare module 'node-gyp-build' {
  /** Loads the addon of the package in `folder`: one that was built there, or else the prebuilt one that fits. */
  function load(folder: string): unknown;
  export = load;
}
