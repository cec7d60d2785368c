import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { ApiProblem, problem } from '../api';
import { RemoteGpuModel } from '../model';
import { FakeApi, SESSION } from './fake';

describe('the model', () => {
  let api: FakeApi;
  let model: RemoteGpuModel;

  beforeEach(() => {
    api = new FakeApi();
    model = new RemoteGpuModel(api, 60000);
  });

  afterEach(() => model.dispose());

  it('reads nothing before somebody looks', async () => {
    await model.look({ path: 'a.ipynb', kernelId: null });
    expect(api.calls).toEqual([]);
    expect(model.state.loading).toBe(true);
  });

  it('reads lists and choice when asked', async () => {
    api.choices['a.ipynb'] = 'local';
    await model.look({ path: 'a.ipynb', kernelId: null });
    await model.refresh();
    expect(model.state.clusters).toHaveLength(1);
    expect(model.state.sessions).toHaveLength(1);
    expect(model.state.choice).toBe('local');
    expect(model.state.loading).toBe(false);
  });

  it('keeps the last lists when the server goes away, and says so', async () => {
    await model.refresh();
    api.failure = new ApiProblem('away', 0);
    await model.refresh();
    expect(model.state.problem?.message).toBe('away');
    expect(model.state.sessions).toHaveLength(1);
    api.failure = null;
    await model.refresh();
    expect(model.state.problem).toBeNull();
  });

  it('shows a choice at once and takes it back when it is refused', async () => {
    await model.look({ path: 'a.ipynb', kernelId: null });
    await model.refresh();
    const chosen = model.choose('local');
    expect(model.state.choice).toBe('local');
    await chosen;
    api.failure = new ApiProblem('There is no cluster other.', 404, 'unknown_cluster');
    await model.choose('other');
    expect(model.state.choice).toBe('local');
    expect(model.state.actionProblem?.reason).toBe('unknown_cluster');
    model.forgetProblem();
    expect(model.state.actionProblem).toBeNull();
  });

  it('does not give the answer for one notebook to another', async () => {
    await model.look({ path: 'a.ipynb', kernelId: null });
    await model.refresh();
    const chosen = model.choose('local');
    await model.look({ path: 'b.ipynb', kernelId: null });
    await chosen;
    expect(model.state.choice).toBeNull();
  });

  it('stops a session and shows that it is gone', async () => {
    await model.refresh();
    expect(await model.stop(SESSION)).toBe(true);
    expect(model.state.sessions).toEqual([]);
    expect(api.calls).toContain(`stop ${SESSION.id}`);
  });

  it('reads at once when the panel opens', async () => {
    model.active = true;
    await model.refresh();
    expect(api.calls).toContain('clusters');
  });

  it('does nothing after it was disposed', async () => {
    model.dispose();
    await model.refresh();
    expect(api.calls).toEqual([]);
  });
});

describe('problem answers', () => {
  it('keeps title, reason and hint', () => {
    const body = {
      title: 'No cluster lcal.',
      reason: 'unknown_cluster',
      hint: 'Did you mean local?'
    };
    const error = problem(404, JSON.stringify(body));
    expect([error.message, error.status, error.reason, error.hint]).toEqual([body.title, 404, body.reason, body.hint]);
  });

  it('makes do with an answer that is no JSON', () => {
    expect(problem(502, '<html>').message).toBe('HTTP 502');
  });
});
