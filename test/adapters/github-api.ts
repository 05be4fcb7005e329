// The part of GitHub's REST API that imports use, with answers as documented, on a test server.
import { createHash } from 'node:crypto';
import type { Handler, Site } from './web-server.ts';
import { json } from './web-server.ts';

export const API = 'api.github.test';
export const CODELOAD = 'codeload.github.test';
export const COMMIT = '6dcb09b5b57875f334f61aebed695e2e4193db5e';

/** Answers with an ETag, or 304 if the client has it. */
const conditional = (value: unknown, headers: Record<string, string> = {}): Handler => {
  const etag = `"${createHash('sha256')
    .update(JSON.stringify([value, headers]))
    .digest('hex')}"`;
  return (request, response) => {
    if (request.headers['if-none-match'] !== etag) return json(value, 200, { etag, ...headers })(request, response);
    response.writeHead(304, { etag });
    response.end();
  };
};

/** Every answer but 304 counts; past the limit it is 403 until `reset` (seconds since 1970), as GitHub does it. */
export function limited(handler: Handler, budget: { left: number; reset: number }): Handler {
  return (request, response) => {
    const rate = {
      'x-ratelimit-limit': '60',
      'x-ratelimit-reset': String(budget.reset),
      'x-ratelimit-resource': 'core',
    };
    const conditionalHit = request.headers['if-none-match'] !== undefined;
    if (budget.left === 0 && !conditionalHit) {
      const message =
        "API rate limit exceeded for 127.0.0.1. (But here's the good news: Authenticated requests get a higher rate limit.)";
      return json(
        { message, documentation_url: 'https://docs.github.com/rest/overview/rate-limits-for-the-rest-api' },
        403,
        {
          ...rate,
          'x-ratelimit-remaining': '0',
        },
      )(request, response);
    }
    if (!conditionalHit) budget.left -= 1;
    for (const [name, value] of Object.entries({ ...rate, 'x-ratelimit-remaining': String(budget.left) }))
      response.setHeader(name, value);
    return handler(request, response);
  };
}

/** Lays a repository into a site, `octo/rows` by default; all refs are the same commit. */
export function layRepository(site: Site, archive: Handler, name = 'octo/rows', ref = 'feature/x'): void {
  const repository = `/repos/${name}`;
  const license = {
    key: 'apache-2.0',
    name: 'Apache License 2.0',
    spdx_id: 'Apache-2.0',
    url: 'https://api.github.com/licenses/apache-2.0',
  };
  site.pages.set(
    `${API}${repository}`,
    conditional({ id: 1296269, name: 'rows', full_name: 'octo/rows', private: false, license, default_branch: 'main' }),
  );
  const commit = { sha: COMMIT, node_id: 'MDY6', commit: { message: 'rows', tree: { sha: COMMIT } }, parents: [] };
  for (const one of ['main', 'v1.0', ref, COMMIT])
    site.pages.set(`${API}${repository}/commits/${one}`, conditional(commit));
  site.pages.set(`${API}${repository}/tarball/${COMMIT}`, (_request, response) => {
    response.writeHead(302, { location: site.url(CODELOAD, `/octo/rows/legacy.tar.gz/${COMMIT}`) });
    response.end();
  });
  site.pages.set(`${CODELOAD}/octo/rows/legacy.tar.gz/${COMMIT}`, archive);
}

/** Lays a release with assets, `perPage` to a page whatever is asked for; each asset's bytes are a page of their own. */
export function layRelease(
  site: Site,
  tag: string,
  assets: Readonly<Record<string, { handler: Handler; bytes: number; digest?: string; state?: string }>>,
  perPage: number,
  repositoryName = 'octo/rows',
): void {
  const repository = `/repos/${repositoryName}`;
  const release = { id: 7, tag_name: tag, target_commitish: 'main', draft: false, prerelease: false, assets: [] };
  site.pages.set(`${API}${repository}/releases/tags/${tag}`, conditional(release));
  const all = Object.entries(assets).map(([name, { bytes, digest, state = 'uploaded' }], i) => ({
    url: site.url(API, `${repository}/releases/assets/${i + 1}`),
    browser_download_url: `https://github.com/octo/rows/releases/download/${tag}/${name}`,
    ...{
      id: i + 1,
      name,
      label: null,
      state,
      content_type: 'application/octet-stream',
      size: bytes,
      download_count: 42,
    },
    digest: digest === undefined ? null : `sha256:${digest}`,
  }));
  Object.values(assets).forEach(({ handler }, i) =>
    site.pages.set(`${API}${repository}/releases/assets/${i + 1}`, handler),
  );
  const pages = Math.ceil(all.length / perPage);
  for (let page = 1; page <= pages; page += 1) {
    const path = (n: number): string => `${repository}/releases/7/assets?per_page=100${n > 1 ? `&page=${n}` : ''}`;
    const link =
      page < pages ? `<${site.url(API, path(page + 1))}>; rel="next", <${site.url(API, path(pages))}>; rel="last"` : '';
    site.pages.set(
      `${API}${path(page)}`,
      conditional(all.slice((page - 1) * perPage, page * perPage), link ? { link } : {}),
    );
  }
}
