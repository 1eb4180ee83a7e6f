package app

import "net"

// Postponed is c as the public server sees its connections.
func Postponed(c net.Conn) net.Conn { return newPostponed(c) }
