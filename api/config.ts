// The API's configuration from the environment: the settings of every program, and where and how the API listens.
import { apiUrlOf, platformConfig, readVariables, type Environment } from '../workers/config.ts';
import { defaultLimits, loopbackHosts } from './deps.ts';

const LOOPBACK = ['127.0.0.1', '::1', 'localhost'];

export { apiUrlOf };
export type ApiConfig = ReturnType<typeof apiConfig>;

/** Reads the environment. Throws one error that names every invalid variable and repeats no value. */
export function apiConfig(environment: Environment = process.env) {
  const { values } = readVariables(environment, ['DATABASE_URL']);
  const isLoopback = LOOPBACK.includes(values.OCDL_API_HOST);
  const named = values.OCDL_API_HOSTS?.toLowerCase().split(',').filter(Boolean);
  // Jobs' wrappers and local probes bypass the proxy. No web page can take over these names.
  const own = [...loopbackHosts, new URL(values.OCDL_API_URL).hostname];
  const dataUrl = values.OCDL_KUBERNETES_DATA_URL;
  const data = /^\[?(.+?)\]?:(\d+)$/.exec(values.OCDL_DATA_LISTEN ?? '');
  const limits = { ...defaultLimits, fileBytes: values.OCDL_FILE_LIMIT_BYTES };
  return {
    ...platformConfig(values),
    host: values.OCDL_API_HOST,
    port: values.OCDL_API_PORT,
    isLoopback,
    /** The listener for pods, which serves only the data path of jobs. */
    data: data && {
      host: data[1] ?? '',
      port: Number(data[2]),
      limits: {
        ...limits,
        hosts: dataUrl === undefined ? ('any' as const) : [...loopbackHosts, new URL(dataUrl).hostname.toLowerCase()],
      },
    },
    limits: {
      ...limits,
      hosts: named || isLoopback ? [...new Set([...(named ?? []), ...own])] : ('any' as const),
    },
  } as const;
}
