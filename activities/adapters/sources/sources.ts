// Combines all external data sources in one port: GitHub, Maven, HTTPS, private nodes. HTTPS requests use the guarded fetch.
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
    /** Base URL of the repository, without a trailing slash. */
    readonly url: string;
  };
  readonly https: {
    /** Hosts allowed for every project: `host` for port 443, otherwise `host:port`. */
    readonly hosts: readonly string[];
  };
  readonly sftp: SftpOptions;
}

/** Creates the sources; connections are opened on demand. */
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
