// The app: one screen to try the model, one for the camera, one that proves the model on this device.

import SwiftUI

@main
struct ProofApp: App {
    var body: some Scene {
        WindowGroup { RootView() }
    }
}

struct RootView: View {
    private let loaded = Result { try Plan.load() }

    var body: some View {
        switch loaded {
        case .success(let plan):
            TabView {
                TryScreen(plan: plan).tabItem { Label("Try", systemImage: "photo.on.rectangle") }
                if plan.kind == .classifier, plan.picture != nil {
                    CameraScreen(plan: plan).tabItem { Label("Camera", systemImage: "camera") }
                }
                ProofScreen(plan: plan).tabItem { Label("Proof", systemImage: "checkmark.seal") }
            }
        case .failure(let error):
            Message(title: "The app is incomplete", text: error.localizedDescription)
        }
    }
}
