// What JupyterLab's packages expect of a browser, and jsdom does not have.
globalThis.DragEvent ??= class DragEvent extends Event {};
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
window.matchMedia ??= () => ({
  matches: false,
  addEventListener: () => undefined,
  removeEventListener: () => undefined
});
window.requestIdleCallback ??= callback => setTimeout(callback, 0);
window.cancelIdleCallback ??= handle => clearTimeout(handle);
