import js from '@eslint/js';
import jupyter from '@jupyter/eslint-plugin';
import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['node_modules', 'lib', '*.mjs', '*.js', 'style/*.js'] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  { plugins: { jupyter } },
  { ...jupyter.configs.recommended, ignores: ['src/**/__tests__/**'] },
  {
    files: ['src/**/*.{ts,tsx}'],
    // The rule about plugins' arguments looks at the types of tokens.
    languageOptions: { parserOptions: { project: 'tsconfig.test.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/naming-convention': [
        'error',
        {
          selector: 'interface',
          format: ['PascalCase'],
          custom: { regex: '^I[A-Z]', match: true }
        }
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      curly: 'error',
      eqeqeq: 'error'
    }
  },
  prettier
);
