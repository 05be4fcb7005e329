// The Web UI, as its makers' server serves it, behind a check of who asks: a page of a foreign site that a browser shows
// must reach nothing here, neither across origins nor under a name that it has pointed at this machine (DNS rebinding).
package main

import (
	"io/fs"
	"net"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
)

func newWebUI(given options) (*http.Server, error) {
	provider, err := config.NewConfigProviderWithRefresh(&config.Config{
		Host:                host,
		Port:                given.uiPort,
		TemporalGRPCAddress: address(given.port),
		EnableUI:            true,
		DefaultNamespace:    given.namespace,
		HideLogs:            true,
		// A command is given by the API, signed; these would only be recorded as refused.
		WorkflowSignalDisabled: true,
		WorkflowUpdateDisabled: true,
		StartWorkflowDisabled:  true,
	})
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.HideBanner = true
	e.HidePort = true
	e.Use(middleware.Recover())
	e.Use(middleware.Gzip())
	e.Use(middleware.Secure())
	e.Use(middleware.CSRFWithConfig(middleware.CSRFConfig{
		CookiePath:     "/",
		CookieSameSite: http.SameSiteStrictMode,
	}))
	route.SetHealthRoute(e)
	forwarded := headers.WithForwardHeaders([]string{"Caller-Type"})
	if err := route.SetAPIRoutes(e, provider, []api.Middleware{forwarded}); err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	if err := route.SetUIRoutes(e, "", assets); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "")
	return &http.Server{Handler: fromHere(e)}, nil
}

// fromHere refuses requests that are addressed to another name than this machine's loopback, or come from another origin.
func fromHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "The Web UI answers at 127.0.0.1 and localhost alone.", http.StatusForbidden)
			return
		}
		for _, origin := range r.Header.Values("Origin") {
			from, err := url.Parse(origin)
			if err != nil || from.Scheme != "http" || from.Host != r.Host {
				http.Error(w, "The Web UI takes no requests from pages of other origins.", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback goes by the name alone: the port differs where somebody reaches the Web UI through a tunnel.
func isLoopback(hostAndPort string) bool {
	name, _, err := net.SplitHostPort(hostAndPort)
	if err != nil {
		name = hostAndPort
	}
	return name == "localhost" || name == "127.0.0.1" || name == "::1" || name == "[::1]"
}
