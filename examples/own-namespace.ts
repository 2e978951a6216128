import { spawnSync } from 'node:child_process';
import { Netns, type SystemError } from 'tunsock';

/**
 * Moves this process into a new network namespace, so that nothing it does touches the host's network. Without
 * privilege it starts the program again under unshare -Urn, which needs none, and ends as that does.
 */
export function enterOwnNamespace(): void {
  try {
    Netns.create().enter();
  } catch (error) {
    if ((error as SystemError).code !== 'EPERM' || process.env.TUNSOCK_UNSHARED !== undefined) throw error;
    const { status, error: failure } = spawnSync(
      'unshare',
      ['-Urn', process.execPath, ...process.argv.slice(1)],
      {
        stdio: 'inherit',
        env: { ...process.env, TUNSOCK_UNSHARED: '1' },
      },
    );
    if (failure !== undefined) throw failure;
    if (status !== 0) console.error('Where unprivileged user namespaces are switched off, run this as root.');
    process.exit(status ?? 1);
  }
}
