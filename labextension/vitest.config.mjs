import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'jsdom',
    include: ['src/**/__tests__/*.spec.{ts,tsx}'],
    setupFiles: ['vitest.setup.mjs'],
    // JupyterLab's packages are ES modules that do not say so; let vite load them.
    server: { deps: { inline: [/@jupyter/, /@lumino/, /@microsoft/] } }
  }
});
