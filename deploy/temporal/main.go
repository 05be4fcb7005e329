// The embedded Temporal server: one process with the four services over SQLite, and the Web UI. It listens on loopback
// alone and opens no port for Temporal's HTTP API, metrics or profiles: a page that a browser shows could reach those.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"

	// The server's own driver, named here so that go.mod pins its version.
	_ "modernc.org/sqlite"
	// Schedules need time zones, and a small system may have no data of them.
	_ "time/tzdata"
)

const (
	host        = "127.0.0.1"
	clusterName = "active"
	store       = "sqlite"
)

type options struct {
	port, uiPort    int
	namespace, file string
}

func main() {
	var given options
	flag.IntVar(&given.port, "port", 0, "port of the server (gRPC)")
	flag.IntVar(&given.uiPort, "ui-port", 0, "port of the Web UI")
	flag.StringVar(&given.namespace, "namespace", "default", "namespace that is made if it is missing")
	flag.StringVar(&given.file, "db-file", "", "the database's file")
	flag.Parse()
	if given.port == 0 || given.uiPort == 0 || given.file == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "Usage: temporal --port PORT --ui-port PORT --db-file FILE [--namespace NAME]")
		os.Exit(2)
	}
	if err := run(given); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(given options) error {
	conf, err := serverConfig(given)
	if err != nil {
		return err
	}
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: "warn", Format: "json"}))
	authorizer, err := authorization.GetAuthorizerFromConfig(&conf.Global.Authorization)
	if err != nil {
		return fmt.Errorf("making the authorizer: %w", err)
	}
	claims, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, logger)
	if err != nil {
		return fmt.Errorf("making the claim mapper: %w", err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts(conf)),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(dynamicConfig()),
		temporal.InterruptOn(temporal.InterruptCh()),
	)
	if err != nil {
		return fmt.Errorf("preparing the server: %w", err)
	}
	left, err := earlierRuns(given.file)
	if err != nil {
		return err
	}
	ui, err := newWebUI(given)
	if err != nil {
		return fmt.Errorf("preparing the Web UI: %w", err)
	}
	listener, err := net.Listen("tcp", address(given.uiPort))
	if err != nil {
		return fmt.Errorf("the Web UI cannot listen: %w", err)
	}
	failed := make(chan error, 1)
	go func() { failed <- ui.Serve(listener) }()
	defer ui.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go giveOutAgain(ctx, given, left, logger)
	ended := make(chan error, 1)
	// Returns at SIGINT or SIGTERM, when all services have stopped.
	go func() { ended <- server.Start() }()
	select {
	case err := <-failed:
		return errors.Join(fmt.Errorf("the Web UI failed: %w", err), server.Stop())
	case err := <-ended:
		return err
	}
}

func serverConfig(given options) (*config.Config, error) {
	var conf config.Config
	conf.Global.Membership.MaxJoinDuration = 30 * time.Second
	conf.Global.Membership.BroadcastAddress = host

	database, err := database(given)
	if err != nil {
		return nil, err
	}
	conf.Persistence.DefaultStore = store
	conf.Persistence.VisibilityStore = store
	conf.Persistence.NumHistoryShards = 1
	conf.Persistence.DataStores = map[string]config.DataStore{store: {SQL: database}}

	conf.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10,
		MasterClusterName:        clusterName,
		CurrentClusterName:       clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{
			clusterName: {
				Enabled:                true,
				InitialFailoverVersion: 1,
				RPCAddress:             address(given.port),
				ClusterID:              uuid.NewString(),
			},
		},
	}
	conf.DCRedirectionPolicy.Policy = "noop"
	conf.Services = map[string]config.Service{}
	for _, name := range []primitives.ServiceName{
		primitives.FrontendService, primitives.HistoryService, primitives.MatchingService, primitives.WorkerService,
	} {
		port := given.port
		if name != primitives.FrontendService {
			if port, err = freePort(); err != nil {
				return nil, err
			}
		}
		// No HTTPPort: the HTTP API is not opened.
		conf.Services[string(name)] = config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: host}}
	}
	conf.Archival.History.State = "disabled"
	conf.Archival.Visibility.State = "disabled"
	conf.NamespaceDefaults.Archival.History.State = "disabled"
	conf.NamespaceDefaults.Archival.Visibility.State = "disabled"
	conf.PublicClient.HostPort = address(given.port)
	return &conf, nil
}

// database makes the file's tables at the first start, and the namespaces that are missing.
func database(given options) (*config.SQL, error) {
	conf := &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: given.file,
		ConnectAttributes: map[string]string{
			"mode": "rwc",
			// With SQLite's default pragmas the server does two workflows a second on disk, with these fourteen.
			"journal_mode": "WAL",
			"synchronous":  "NORMAL",
		},
	}
	if _, err := os.Stat(given.file); errors.Is(err, os.ErrNotExist) {
		if err := sqliteschema.SetupSchema(conf); err != nil {
			return nil, fmt.Errorf("making the tables in %s: %w", given.file, err)
		}
	}
	for _, name := range []string{"default", given.namespace} {
		namespace, err := sqliteschema.NewNamespaceConfig(clusterName, name, false, nil)
		if err != nil {
			return nil, fmt.Errorf("preparing namespace %s: %w", name, err)
		}
		if err := sqliteschema.CreateNamespaces(conf, namespace); err != nil {
			return nil, fmt.Errorf("making namespace %s: %w", name, err)
		}
	}
	return conf, nil
}

func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		// A task that thousands of signals wait for takes longer than the default of 10 s on a busy machine, and would then be
		// tried again for ever. More than half a minute would hold up the tasks of a worker that was killed.
		dynamicconfig.DefaultWorkflowTaskTimeout.Key(): 30 * time.Second,
		// Trainings, evaluations and imports carry their project as fairness key: a long backlog of one holds up no other.
		// Fairness is within a partition of a queue, and one server has no use for several.
		dynamicconfig.MatchingEnableFairness.Key():              true,
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// Nexus needs the HTTP API.
		dynamicconfig.EnableNexus.Key(): false,
		// A search attribute is visible as soon as it is registered; reading it each time takes more queries.
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key():      true,
		dynamicconfig.FrontendPersistenceMaxQPS.Key():                    10_000,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():                     45_000,
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 8_096,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
	}
}

func hosts(conf *config.Config) map[primitives.ServiceName]static.Hosts {
	all := map[primitives.ServiceName]static.Hosts{}
	for name, service := range conf.Services {
		all[primitives.ServiceName(name)] = static.SingleLocalHost(address(service.RPC.GRPCPort))
	}
	return all
}

func address(port int) string {
	return fmt.Sprintf("%s:%d", host, port)
}

// freePort gives a port that nobody listens on, chosen by the operating system.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", address(0))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
