// Package publish is the owner's side of the bridge: a Publisher finds the devices
// of this node, keeps the ports open that its rules choose, lends them to
// consumers, and tells what the registry shall show. What a device does with its
// port and its sessions is package internal/device's; which devices there shall
// be is decided by package internal/inventory.
//
//	Discover, Watch ─▶ inventory ─▶ Want ─▶ Device ─▶ OnDevices
//	                                          ▲
//	a stream that the mesh accepted ─▶ Serve ─┘
//
// # Goroutines
//
// Publisher.Run has one that hears the kernel's events and those of each device's
// Run; it joins them before it returns. Publisher.Serve runs on its caller's.
package publish
