package identity_test

// Golden values, computed from doc.go's formulas with another implementation.
const (
	goldenNodeID      = "sfsul4wazx36wckw2xohx4ipj4"
	goldenPrefix      = "fd06:2cc1:7961:866::/64"
	goldenAddress     = "fd06:2cc1:7961:866:9165:45f2:c0cd:f7eb"
	goldenLabel       = "8b4f6fd06f63aeb3"
	goldenText        = "ssp1aaaqeayeaudaocajbifqydiob4aaaaahuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuwsstybjja"
	goldenFingerprint = "448b-237e-732f-9d93"
	goldenJoinKey     = "616f79bfd80e74d25a7afe40d1620a5fc98f7890e2709bc74d77bb3619b21f97"
	goldenGossipKey   = "30cb89f92b635285e82a6319787757d7180dcd51c1e36a4ac530281a902c99d1"
	goldenBeaconKey   = "b1588ef7b67c88c71237278c9bed293540c01fa40349f053b3609cad3963ff44"
	goldenHandOverKey = "66a8ec239c22309357840f8464b7b39b7da04f93050133188d48a9ff106be315"
	goldenSecretHash  = "04019e95a07b070b1ee8cec740a96674ba13cc27a61d31057b85fcaa5b1f1010"
	goldenSignature   = "7eb2009034c7f86d13867952753d74bf76f42b4b2f7d4a7a1e2efdb9905fef0277e24f7efc1d9c438de9fdc3483231a62ba1051ca731d0cb0317e28cbf6fdb01"
)
