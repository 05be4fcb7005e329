// All sources of data from outside as one port: GitHub, Maven, the web, private nodes. Each goes through the same guard.
import type { DataSources } from '../../ports.ts';
import { createGithub } from './github.ts';
import type { GithubOptions } from './github.ts';
import type { GuardOptions } from './guarded-fetch.ts';
import { createGuardedFetch } from './guarded-fetch.ts';
import type { SftpOptions } from './sftp.ts';
import { sftpSession } from './sftp.ts';
import { httpsSession, mavenSession } from './web.ts';

export interface SourceOptions {
  readonly guard: GuardOptions;
  readonly github: GithubOptions;
  readonly maven: {
    /** Base URL of the repository, without a slash at the end. */
    readonly url: string;
  };
  readonly https: {
    /** Hosts for every project: `host` for port 443, `host:port` for another one. */
    readonly hosts: readonly string[];
  };
  readonly sftp: SftpOptions;
}

/** Opens no connection until it is asked for one. */
export function createSources(options: SourceOptions): DataSources {
  const fetch = createGuardedFetch(options.guard);
  const github = createGithub(fetch, options.github);
  return {
    async connect(source, { nodes, signal }) {
      switch (source.kind) {
        case 'github':
        case 'github-release':
          return github(source, signal);
        case 'maven':
          return mavenSession(fetch, source, options.maven.url, signal);
        case 'https': {
          const own = nodes.flatMap((node) => (node.kind === 'https' ? [node.host] : []));
          return httpsSession(fetch, source, [...options.https.hosts, ...own], signal);
        }
        case 'sftp':
          return sftpSession(options.sftp, source, nodes, signal);
      }
    },
  };
}
