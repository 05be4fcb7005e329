// What an earlier version of this server has left in its task queues is given out again: this one keeps other queues.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/server/api/adminservice/v1"
	persistencespb "go.temporal.io/server/api/persistence/v1"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// workflowRun is one run of a workflow.
type workflowRun struct{ namespaceID, workflowID, runID string }

// earlierRuns lists the runs with tasks in queues without fairness. Only a server of an earlier version writes those (table
// `tasks`): this one has its queues in `tasks_v2` and never reads them, so what waits there would wait for ever.
func earlierRuns(file string) ([]workflowRun, error) {
	database, err := open(file)
	if err != nil {
		return nil, err
	}
	defer database.Close()
	rows, err := database.Query("SELECT data FROM tasks")
	if err != nil {
		return nil, fmt.Errorf("reading the tasks of an earlier server in %s: %w", file, err)
	}
	defer rows.Close()
	seen := map[workflowRun]bool{}
	var runs []workflowRun
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		var task persistencespb.AllocatedTaskInfo
		if err := task.Unmarshal(data); err != nil {
			return nil, fmt.Errorf("a task of an earlier server in %s is malformed: %w", file, err)
		}
		run := workflowRun{task.GetData().GetNamespaceId(), task.GetData().GetWorkflowId(), task.GetData().GetRunId()}
		if !seen[run] {
			seen[run] = true
			runs = append(runs, run)
		}
	}
	return runs, rows.Err()
}

// giveOutAgain lets the server make the tasks of these runs again, in its own queues, and then empties the earlier ones. It
// tries until it succeeds or the server ends; twice does no harm, since a task that is taken already is dropped.
func giveOutAgain(ctx context.Context, given options, runs []workflowRun, logger log.Logger) {
	if len(runs) == 0 {
		return
	}
	for tries := 0; ctx.Err() == nil; tries++ {
		err := refresh(ctx, given, runs)
		if err == nil {
			logger.Warn("tasks of an earlier server were given out again", tag.NewInt("runs", len(runs)))
			return
		}
		// The server takes some seconds to answer; once a minute is often enough for the log.
		if tries%60 == 59 {
			logger.Error("tasks of an earlier server cannot be given out yet; it is tried again", tag.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func refresh(ctx context.Context, given options, runs []workflowRun) error {
	connection, err := grpc.NewClient(address(given.port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	admin := adminservice.NewAdminServiceClient(connection)
	for _, run := range runs {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := admin.RefreshWorkflowTasks(ctx, &adminservice.RefreshWorkflowTasksRequest{
			NamespaceId: run.namespaceID,
			Execution:   &commonpb.WorkflowExecution{WorkflowId: run.workflowID, RunId: run.runID},
		})
		cancel()
		// A run that is gone needs no task.
		if err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("workflow %s: %w", run.workflowID, err)
		}
	}
	database, err := open(given.file)
	if err != nil {
		return err
	}
	defer database.Close()
	_, err = database.ExecContext(ctx, "DELETE FROM tasks")
	return err
}

func open(file string) (*sql.DB, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	// The server writes at the same time.
	address := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(10000)"}
	return sql.Open("sqlite", address.String())
}
