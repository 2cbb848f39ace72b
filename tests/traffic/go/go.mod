module traffic

go 1.22
