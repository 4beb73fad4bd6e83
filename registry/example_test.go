package registry_test

import (
	"fmt"
	"log"

	"github.com/serialspan/serialspan/mesh/identity"
	"github.com/serialspan/serialspan/registry"
)

// Two nodes: garage publishes a stick, its messages are carried to server, and
// server resolves the name.
func Example() {
	secret, err := identity.NewSecret()
	if err != nil {
		log.Fatal(err)
	}
	node := func(name string) (*registry.Registry, identity.NodeID) {
		id, err := identity.Generate()
		if err != nil {
			log.Fatal(err)
		}
		return registry.New(registry.Config{Identity: id, Cluster: secret.Cluster, NodeName: name}), id.ID()
	}
	garage, owner := node("garage")
	server, _ := node("server")
	server.SetMembers(map[identity.NodeID]registry.MemberView{owner: {Name: "garage", Alive: true}})

	messages, err := garage.Publish(0, []registry.Device{{Name: "garage-zwave", Kind: "zwave"}})
	if err != nil {
		log.Fatal(err)
	}
	// In the agent, package registrysync carries them; order does not matter.
	for _, m := range messages {
		if _, err := server.Merge(0, m.Wire); err != nil {
			log.Fatal(err)
		}
	}

	found, err := server.Resolve(0, "garage-zwave")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Device.Name, "is at", found.OwnerName, "and", found.Device.State)
	_, err = server.Resolve(0, "shed-zigbee")
	fmt.Println(err)
	// Output:
	// garage-zwave is at garage and available
	// no device named "shed-zigbee"; see `serialspan devices`
}
