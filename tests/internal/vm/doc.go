// Package vm runs virtual machines for tests: QEMU with a Debian kernel and an
// init of our own (package guest), for what namespaces cannot have: real USB
// serial drivers with hot-plug, a wrong clock, power failures, kernel modules.
//
//	test ─┬─ QMP ────────────────── QEMU: plug, unplug, cut the network, stop
//	      ├─ virtio-serial ──────── guest (init): programs, files, sockets, USB/IP
//	      ├─ Stick ──────────────── QEMU usb-serial ─ ftdi_sio ─ /dev/ttyUSB0
//	      └─ usbip.Device ── init ─ vhci_hcd ─ cdc_acm, cp210x ─ /dev/ttyACM0
//
// A machine boots in two to three seconds; there is no distribution in it, only
// the files, programs and modules that Config names, in memory. What has to
// survive a reboot goes to the Disk. QEMU always emulates (-accel tcg): KVM is
// not there in CI, and where it is, behaves differently. Root is needed only to
// put a machine in the place of a lab host.
//
// Kernel and modules are those of Debian's package linux-image-amd64,
// downloaded once with apt-get into the user's cache folder.
//
// Everything belongs to the testing.TB that it was made with and is gone when
// that ends; if the test failed, the console is printed. A machine whose test
// was killed turns itself off. Each VM has one goroutine for its control port
// and one per forwarded connection; Kill and the end of the test join them.
//
// Functions that report failure through the testing.TB are to be called from
// the test's goroutine.
package vm
