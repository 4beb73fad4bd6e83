// Package profile holds what is known about a kind of serial device by its
// USB IDs and strings: line settings, what to do with DTR and RTS, whether it
// minds the pulse that Linux gives at open, how old bytes may be, and how to
// reset it.
//
// It is values: it reads no file and opens no device. The profiles that come
// with SerialSpan, and the reader of a user's own, are in configs/profiles.
//
// # Which profile a device has
//
// A profile matches a device if one of its Matches does: every field of the
// Match that is not empty must fit. Of all profiles that match, the one with
// the most specific Match counts. What makes a Match more specific, the
// weightiest first; of two, the first difference decides:
//
//  1. it names the product;
//  2. it names the manufacturer;
//  3. it names the product ID, the vendor ID, the interface, the driver, in
//     this order;
//  4. its product text is longer ("Plus V2" before "Plus"), then its
//     manufacturer text;
//  5. its profile stands earlier in the list. Overlay puts a user's own first.
//
// The IDs of a bridge chip (CP210x 10c4:ea60, CH340 1a86:7523) say nothing of
// what is behind it. A profile that matches them alone is Generic, of kind
// "serial"; sticks with such a chip are told apart by their product string,
// and those that kept the chip maker's string need a rule.
package profile
