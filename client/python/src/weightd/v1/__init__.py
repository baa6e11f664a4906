"""Generated protocol messages of weightd.v1; see generate_proto.sh."""
