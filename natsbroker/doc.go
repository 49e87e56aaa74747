// Package natsbroker is Tidings' log on NATS JetStream: what was accepted survives a restart, and several nodes share one
// log. [Embed] runs the NATS server in the process, with a directory for its files and, alone, without a port; [Connect]
// uses one that is there. Both give a [Broker], which keeps the contract of [tidings.Broker] (brokertest proves it):
//
//	log, err := natsbroker.Embed(ctx, natsbroker.EmbedOptions{Dir: "/var/lib/tidings"})
//	if err != nil {
//		return err
//	}
//	defer log.Close()
//	hub, err := tidings.New(&tidings.Options{Broker: log})
//
// The log is one stream. The records of one append are packed into blocks, a message each; nothing is in the subject, for
// the hub's index finds who is to get what. Order is the stream's. A discontinuity of any kind (the stream was deleted,
// recreated, purged, restored from an older copy, or has dropped what was not read yet) is told as [tidings.ErrGap] or
// [tidings.ErrEpoch], and nothing is ever passed over.
//
// What an acknowledgement is worth is the storage's business: see EmbedOptions.Sync, and docs/guarantees.md.
package natsbroker
