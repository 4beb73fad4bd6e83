package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/serialspan/serialspan/bridge/client"
	"github.com/serialspan/serialspan/tests/internal/lab"
	"github.com/serialspan/serialspan/tests/internal/vm"
)

// talosGuest boots a machine in the place of a host with a device kubespan of
// the kernel and all that Talos sets up beside it.
func talosGuest(t *testing.T, host *lab.Host, secret string, device lab.KubeSpanDevice, sticks ...vm.Stick) *vm.VM {
	t.Helper()
	v := vm.Start(t, vm.Config{
		Name: host.Name, Disk: vm.NewDisk(t), Files: guestFiles(t, secret), NICs: []vm.NIC{vm.InPlaceOf(t, host)}, Sticks: sticks,
		Modules: []string{"wireguard", "nf_tables"}, Programs: []string{"ip", "wg", "nft"},
	})
	v.MustRun("ip", "link", "set", "lo", "up")
	for path, text := range map[string]string{"/etc/wg.conf": device.WG(), "/etc/talos.nft": device.NFT()} {
		if err := v.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guestIP(v, device.Rules())
	startGuestSpan(v, device)
	v.MustRun("nft", "-f", "/etc/talos.nft")
	return v
}

func guestIP(v *vm.VM, all []string) {
	for _, args := range all {
		v.MustRun(append([]string{"/bin/ip"}, strings.Fields(args)...)...)
	}
}

func startGuestSpan(v *vm.VM, device lab.KubeSpanDevice) {
	v.MustRun("/bin/ip", "link", "add", "kubespan", "type", "wireguard")
	v.MustRun("wg", "setconf", "kubespan", "/etc/wg.conf")
	guestIP(v, device.Link())
}

// guestSettings is lab.Host.Settings of a guest.
func guestSettings(v *vm.VM) string {
	var all strings.Builder
	for _, args := range []string{"/bin/ip -d link", "/bin/ip address", "/bin/ip -4 route show table all", "/bin/ip -6 route show table all", "/bin/ip -4 rule", "/bin/ip -6 rule", "nft list ruleset", "wg showconf kubespan"} {
		fmt.Fprintf(&all, "# %s\n%s", args, v.MustRun(strings.Fields(args)...))
	}
	return all.String()
}

// TestKubeSpanOfKernels: two nodes as Talos makes them, with WireGuard in the
// kernel, know the secret and nothing else; a plain host joins through one of
// them. The tunnel takes over when the KubeSpan dies, and gives back.
func TestKubeSpanOfKernels(t *testing.T) {
	lab.NeedTools(t, "wg", "nft")
	network, secret := lab.NewNetwork(t, "edge", "consumer", "plain"), lab.NewSecret(t)
	hosts := []*lab.Host{network.Host("edge"), network.Host("consumer")}
	devices := lab.NewKubeSpan(t, hosts[0].Addr, hosts[1].Addr)
	edgeVM := talosGuest(t, hosts[0], secret, devices[0], vm.Stick{ID: "stick", Serial: "Z1", Port: "1"})
	consumerVM := talosGuest(t, hosts[1], secret, devices[1])
	var before string
	lab.WaitFor(t, "the guest's kernel to be done with addresses", 10*time.Second, func() error {
		if before = guestSettings(consumerVM); strings.Contains(before, "tentative") {
			return errors.New("one is tentative")
		}
		return nil
	})

	plain := lab.Settings{"mesh": lab.Settings{"lan": false}}
	edge := startGuestAgent(t, edgeVM, "edge", lab.Settings{
		"mesh": plain["mesh"], "devices": lab.Settings{"rules": []lab.Settings{{"match": lab.Settings{"serial": "Z1"}, "name": "far-stick"}}}})
	consumer := startGuestAgent(t, consumerVM, "consumer", plain)
	beside := lab.StartAgent(t, network.Host("plain"), "plain", secret, lab.Settings{"cluster": lab.Settings{"join": []string{hosts[0].Addr.String()}}})
	waitDeviceState(t, consumer.Client, "far-stick", client.DeviceAvailable, 30*time.Second)
	beside.WaitDevice("far-stick", 30*time.Second)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := consumer.Client.OpenRaw(ctx, "far-stick", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	go func() { // the stick echoes
		_, _ = io.Copy(edgeVM.Stick("stick"), edgeVM.Stick("stick"))
	}()
	path := func(want string, deadline time.Duration) {
		t.Helper()
		for from, to := range map[*guestAgent]string{consumer: "edge", edge: "consumer"} {
			lab.WaitFor(t, fmt.Sprintf("%s to reach %s on path %q", from.name, to, want), deadline, func() error {
				nodes, err := from.Client.Nodes(t.Context())
				for _, n := range nodes {
					if n.Name == to && n.Path != want {
						err = fmt.Errorf("it is %q", n.Path)
					}
				}
				return err
			})
		}
	}
	path("kubespan", 30*time.Second)
	if status, err := consumer.Client.Status(t.Context()); err != nil || status.KubeSpan == nil || status.KubeSpan.Rights != "NET_ADMIN" || status.KubeSpan.Bypass != "mark" ||
		!status.KubeSpan.Rule || !status.KubeSpan.Forced || status.Members != 3 {
		t.Errorf("status %+v, %v", status, err)
	}
	exchange(t, stream, time.Second, 0, nil)
	var heal func()
	silent := exchange(t, stream, 4*time.Second, time.Second, func() { heal = network.SilenceKubeSpan(t) })
	path("direct", 2*time.Second)
	heal()
	path("kubespan", 60*time.Second)
	if now := guestSettings(consumerVM); now != before {
		t.Errorf("settings before:\n%s\nand after:\n%s", onlyIn(before, now), onlyIn(now, before))
	}
	removed := exchange(t, stream, 3*time.Second, time.Second, func() { consumerVM.MustRun("/bin/ip", "link", "del", "kubespan") })
	path("direct", 2*time.Second)
	startGuestSpan(consumerVM, devices[1])
	path("kubespan", 60*time.Second)
	exchange(t, stream, time.Second, 0, nil)
	t.Logf("without data, no byte lost: peers dead %v, device removed %v", silent, removed)
	// TestKubeSpan holds it to 1 s, in namespaces: emulated machines on a busy
	// host are three times as slow.
	if max(silent, removed) > 3*time.Second {
		t.Error("more than 3 s without data")
	}
}
