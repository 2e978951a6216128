import { Link } from 'tunsock';
import { runCommand } from './child';

/** What `tunsock run` starts in the fresh namespaces: brings loopback up, and runs the command. */
async function main([command, ...args]: string[]): Promise<void> {
  Link.get('lo').up();
  process.exitCode = await runCommand(command as string, args, {});
}

main(process.argv.slice(2)).catch((error: Error) => {
  process.stderr.write(`tunsock: ${error.message}\n`);
  process.exitCode = 1;
});
