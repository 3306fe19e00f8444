"""What several kinds of tests share: real etcd processes, and stand-ins for the outside."""
