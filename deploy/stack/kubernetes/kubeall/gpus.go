package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	dp "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// gpus is a device plugin whose devices exist only by name. A container that gets some sees NVIDIA_VISIBLE_DEVICES.
type gpus struct {
	dp.UnimplementedDevicePluginServer
	devices []*dp.Device
}

func (g *gpus) GetDevicePluginOptions(context.Context, *dp.Empty) (*dp.DevicePluginOptions, error) {
	return &dp.DevicePluginOptions{}, nil
}

func (g *gpus) ListAndWatch(_ *dp.Empty, stream grpc.ServerStreamingServer[dp.ListAndWatchResponse]) error {
	if err := stream.Send(&dp.ListAndWatchResponse{Devices: g.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (g *gpus) Allocate(_ context.Context, request *dp.AllocateRequest) (*dp.AllocateResponse, error) {
	answer := &dp.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		answer.ContainerResponses = append(answer.ContainerResponses, &dp.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")}})
	}
	return answer, nil
}

// simulateGPUs serves `kubeall simulated-gpus COUNT` until it is stopped.
func simulateGPUs(args []string) {
	const resource = "nvidia.com/gpu"
	count := 0
	if len(args) == 1 {
		count, _ = strconv.Atoi(args[0])
	}
	if count < 1 {
		fmt.Fprintln(os.Stderr, "usage: kubeall simulated-gpus COUNT")
		os.Exit(2)
	}
	plugin := &gpus{}
	for i := 0; i < count; i++ {
		plugin.devices = append(plugin.devices, &dp.Device{ID: fmt.Sprintf("GPU-simulated-%d", i), Health: dp.Healthy})
	}
	socket := filepath.Join(dp.DevicePluginPath, "ocdl-gpus.sock")
	// A kubelet that starts removes all sockets, so the plugin serves and registers again.
	for ; ; time.Sleep(500 * time.Millisecond) {
		if err := servePlugin(plugin, socket, resource); err != nil {
			fmt.Println("The kubelet does not accept the device plugin yet:", err)
		}
	}
}

// servePlugin registers the plugin and returns when its socket is gone.
func servePlugin(plugin *gpus, socket string, resource string) error {
	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	dp.RegisterDevicePluginServer(server, plugin)
	go server.Serve(listener)
	defer server.Stop()
	connection, err := grpc.NewClient("unix://"+dp.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := &dp.RegisterRequest{Version: dp.Version, Endpoint: filepath.Base(socket), ResourceName: resource}
	if _, err := dp.NewRegistrationClient(connection).Register(ctx, request); err != nil {
		return err
	}
	fmt.Println("Registered", len(plugin.devices), resource)
	for err == nil {
		time.Sleep(time.Second)
		_, err = os.Stat(socket)
	}
	return nil
}
