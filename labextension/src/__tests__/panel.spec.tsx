import { nullTranslator } from '@jupyterlab/translation';
import React, { act } from 'react';
import { createRoot } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { ApiProblem } from '../api';
import { ClustersSection } from '../components/clusters';
import { Notice } from '../components/notice';
import { NotebookSection } from '../components/notebook';
import { SessionsSection } from '../components/sessions';
import { MIME_TYPE, RunBadge } from '../mime';
import { RemoteGpuModel } from '../model';
import { CLUSTER, FakeApi, SESSION } from './fake';

const trans = nullTranslator.load('jupyter_remote_gpu');

let host: HTMLElement;
let root: ReturnType<typeof createRoot>;
let model: RemoteGpuModel;
let api: FakeApi;

beforeEach(() => {
  host = document.body.appendChild(document.createElement('div'));
  root = createRoot(host);
  api = new FakeApi();
  model = new RemoteGpuModel(api, 60000);
});

afterEach(() => {
  act(() => root.unmount());
  host.remove();
  model.dispose();
});

const show = (element: JSX.Element) => act(() => root.render(element));
const button = (label: string) => host.querySelector<HTMLButtonElement>(`button[aria-label^="${label}"]`);
const withText = (text: string) => [...host.querySelectorAll('button')].find(found => found.textContent === text);

describe('the sections', () => {
  it('explain what is empty, loading or unknown', () => {
    show(<ClustersSection state={model.state} trans={trans} />);
    expect(host.textContent).toContain('Looking for clusters');
    show(<ClustersSection state={{ ...model.state, loading: false }} trans={trans} />);
    expect(host.textContent).toContain('No cluster is configured');
    show(<ClustersSection state={{ ...model.state, problem: new ApiProblem('x', 0) }} trans={trans} />);
    expect(host.textContent).toContain('not known now');
    show(<NotebookSection state={model.state} trans={trans} onChoose={() => undefined} />);
    expect(host.textContent).toContain('where its %%remote_gpu cells run');
  });

  it('list a cluster with its state in a word', () => {
    const broken = {
      ...CLUSTER,
      name: 'far',
      state: 'unreachable',
      detail: 'ssh: connection refused'
    };
    show(<ClustersSection state={{ ...model.state, clusters: [CLUSTER, broken] }} trans={trans} />);
    expect(host.textContent).toContain('CPU only');
    expect(host.textContent).toContain('unreachable');
    expect(host.textContent).toContain('ssh: connection refused');
  });

  it('offer auto and each cluster for the notebook, and keep a choice that is gone visible', () => {
    const chosen: string[] = [];
    const notebook = { path: 'work/train.ipynb', kernelId: null };
    const state = {
      ...model.state,
      clusters: [CLUSTER],
      notebook,
      choice: 'gone'
    };
    show(<NotebookSection state={state} trans={trans} onChoose={name => chosen.push(name)} />);
    const select = host.querySelector('select');
    expect([...(select?.options ?? [])].map(option => option.value)).toEqual(['auto', 'local', 'gone']);
    expect(host.textContent).toContain('train.ipynb');
    act(() => {
      if (select) {
        select.value = 'local';
        select.dispatchEvent(new Event('change', { bubbles: true }));
      }
    });
    expect(chosen).toEqual(['local']);
  });

  it('ask before a session is stopped, with the focus on the harmless answer', async () => {
    const asked: string[] = [];
    const tell = (what: string) => async () => void asked.push(what);
    const actions = {
      stop: tell('stop'),
      interrupt: tell('interrupt'),
      restart: tell('restart'),
      copy: () => undefined
    };
    show(<SessionsSection state={{ ...model.state, sessions: [SESSION] }} actions={actions} trans={trans} />);
    act(() => button('Stop the session')?.click());
    expect(asked).toEqual([]);
    expect(document.activeElement?.textContent).toBe('Keep');
    act(() => withText('Keep')?.click());
    expect(withText('Keep')).toBeUndefined();
    act(() => button('Stop the session')?.click());
    await act(async () => withText('Stop')?.click());
    expect(asked).toEqual(['stop']);
  });

  it('offer nothing for a session that is over', () => {
    const nothing = async () => undefined;
    const actions = {
      stop: nothing,
      interrupt: nothing,
      restart: nothing,
      copy: () => undefined
    };
    const ended = {
      ...SESSION,
      state: 'ended',
      detail: 'The session was idle for 30 minutes.'
    };
    show(<SessionsSection state={{ ...model.state, sessions: [ended] }} actions={actions} trans={trans} />);
    expect(button('Stop the session')?.disabled).toBe(true);
    expect(host.textContent).toContain('idle for 30 minutes');
  });
});

describe('the notice', () => {
  const notice = (problem: ApiProblem) => (
    <Notice state={{ ...model.state, problem }} trans={trans} onRetry={() => undefined} onForget={() => undefined} />
  );

  it('says that runs continue when the server is away', () => {
    show(notice(new ApiProblem('x', 0)));
    expect(host.textContent).toContain('Remote runs continue');
  });

  it('says how to enable the server side', () => {
    show(notice(new ApiProblem('x', 404)));
    expect(host.textContent).toContain('jupyter server extension enable jupyter_remote_gpu');
  });
});

describe('the badge', () => {
  it('is one line that a screen reader can read, and is updated in place', async () => {
    const widget = new RunBadge({
      mimeType: MIME_TYPE,
      sanitizer: { sanitize: (text: string) => text }
    } as never);
    const render = (record: object) => widget.renderModel({ data: { [MIME_TYPE]: record } } as never);
    await render({ state: 'running', cluster: 'local' });
    expect(widget.node.textContent).toContain('running');
    await render({
      state: 'done',
      cluster: 'local',
      run_s: 2,
      lines: 2,
      complete: true
    });
    expect(widget.node.textContent).not.toContain('running');
    expect(widget.node.getAttribute('aria-label')).toBe('Remote run, done, local, 2.0 s, 2 lines complete');
    await render({ state: 'done', names: { notes: ['<b>log</b> stays here'] } });
    const note = widget.node.querySelector('.jp-RemoteGpu-badge-note');
    expect(note?.textContent).toBe('<b>log</b> stays here');
    expect(note?.children).toHaveLength(0);
    widget.dispose();
  });
});
