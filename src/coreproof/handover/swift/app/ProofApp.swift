// The app: one screen to try the model, one for the camera, one that proves the model on this device.

import SwiftUI

@main
struct ProofApp: App {
    var body: some Scene {
        WindowGroup { RootView() }
    }
}

struct RootView: View {
    @State private var plan: Plan?
    @State private var problem: String?

    var body: some View {
        Group {
            if let plan {
                Screens(plan: plan)
            } else if let problem {
                Message(title: "The app is incomplete", text: problem)
            } else {
                ProgressView("Opening the model")
            }
        }
        .task {
            guard plan == nil else { return }
            do {
                // away from the screen's thread: the plan holds the answers on every sample
                plan = try await Task.detached { try Plan.load() }.value
            } catch {
                problem = error.localizedDescription
            }
        }
    }
}

private struct Screens: View {
    let plan: Plan

    var body: some View {
        TabView {
            TryScreen(plan: plan).tabItem { Label("Try", systemImage: "photo.on.rectangle") }
            if plan.picture != nil, plan.kind != .array {
                CameraScreen(plan: plan).tabItem { Label("Camera", systemImage: "camera") }
            }
            ProofScreen(plan: plan).tabItem { Label("Proof", systemImage: "checkmark.seal") }
        }
    }
}
