"""The playground: a small AWS on one machine, where stacks deploy and machines boot etcd. It never ships."""
