"""The load client: raw frames over stdio or HTTP, closed loop and open loop."""
