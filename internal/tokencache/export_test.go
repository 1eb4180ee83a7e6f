package tokencache

var NewRedisBreaker = newRedisBreaker
